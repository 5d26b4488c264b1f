"""automl-sr: plugin-based AutoML for image super-resolution."""

__version__ = "0.1.0"
