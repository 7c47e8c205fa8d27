"""Our models as Hugging Face models and back."""
