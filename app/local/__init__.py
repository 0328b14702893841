"""The system on one machine: a local AWS, KEDA's arithmetic, processes as pods."""
