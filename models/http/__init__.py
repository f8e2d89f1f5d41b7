"""What the HTTP routes of every room share: JSON bodies and pages, multipart forms, the OpenAPI description."""
