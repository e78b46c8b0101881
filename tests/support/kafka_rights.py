"""Apache Kafka that keeps rights: everybody may do everything but what a test takes away."""

from typing import Final

from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its own examples import these from there
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from tests.support.kafka_cluster import KafkaCluster

_SETTINGS: Final = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
_ANSWER_S: Final = 10.0


class GuardedKafka(KafkaCluster):
    """One node. Clients have no names there, so what is taken away is taken from all, the test's own ones too."""

    def __init__(self) -> None:
        """Choose ports and directories."""
        super().__init__(1, settings=_SETTINGS)

    def deny(self, kind: ResourceType, name: str, *operations: AclOperation) -> None:
        """Take rights away, on a topic or a group; on the cluster they could not be given back."""
        admin = self.admin()  # one that nobody holds answers nothing
        for operation in operations:
            binding = AclBinding(
                kind, name, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", operation, AclPermissionType.DENY
            )
            for answer in admin.create_acls([binding]).values():
                answer.result(_ANSWER_S)

    def give_back(self) -> None:
        """Give everything back."""
        every = AclBindingFilter(
            ResourceType.ANY,
            None,  # type: ignore[arg-type]  # any name
            ResourcePatternType.ANY,
            None,  # type: ignore[arg-type]  # as above
            None,  # type: ignore[arg-type]  # as above
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        admin = self.admin()
        for answer in admin.delete_acls([every]).values():
            answer.result(_ANSWER_S)
