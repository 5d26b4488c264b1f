"""The Gradio app: studies of one store as pages, which only read. One module a tab, each with one `build`."""
