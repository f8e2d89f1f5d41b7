"""Access control: cookies, the sign-in page, and the ASGI router in front of Gradio."""
