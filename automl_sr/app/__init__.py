"""The Gradio app: studies of one store as pages, which only read."""
