"""Where a queue's redrive policy sends messages."""

import msgspec


def named_by(policy: str) -> dict[str, str]:
    """The dead-letter queue, as GetQueueUrl asks for it.

    Args:
        policy: the queue attribute RedrivePolicy, JSON.
    """
    arn = str(msgspec.json.decode(policy)["deadLetterTargetArn"])
    account, name = arn.split(":")[4:6]
    return {"QueueName": name, "QueueOwnerAWSAccountId": account}
