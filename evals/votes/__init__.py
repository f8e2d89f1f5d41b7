"""What people say: prompts, blind battles and votes, their import and export, and preference pairs made of them."""
