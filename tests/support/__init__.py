"""What several tests need: the template as it stands, a simulated AWS account, faults on demand."""
