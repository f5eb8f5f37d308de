"""What SageMaker's training service expects of a container, and a request for it."""
