"""Apache Kafka that keeps rights: everybody may do everything but what a test takes away."""

from collections.abc import Sequence
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
from tests.support.log_members import until

_SETTINGS: Final = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "true",
}
_ANSWER_S: Final = 60.0
_EVERY: Final = AclBindingFilter(
    ResourceType.ANY,
    None,  # type: ignore[arg-type]  # any name
    ResourcePatternType.ANY,
    None,  # type: ignore[arg-type]  # as above
    None,  # type: ignore[arg-type]  # as above
    AclOperation.ANY,
    AclPermissionType.ANY,
)


class GuardedKafka(KafkaCluster):
    """One node. Clients have no names there, so what is taken away is taken from all, the test's own ones too."""

    def __init__(self) -> None:
        """Choose ports and directories."""
        super().__init__(1, settings=_SETTINGS)

    def deny(self, kind: ResourceType, name: str, *operations: AclOperation) -> None:
        """Take rights away, on a topic or a group; on the cluster they could not be given back."""
        admin, kept_before = self.admin(), len(self._kept())  # an admin client that nobody holds answers nothing
        for operation in operations:
            binding = AclBinding(
                kind, name, ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", operation, AclPermissionType.DENY
            )
            for answer in admin.create_acls([binding]).values():
                answer.result(_ANSWER_S)
        until(lambda: len(self._kept()) == kept_before + len(operations))

    def give_back(self) -> None:
        """Give everything back."""
        admin = self.admin()
        for answer in admin.delete_acls([_EVERY]).values():
            answer.result(_ANSWER_S)
        until(lambda: not self._kept())

    def _kept(self) -> Sequence[AclBinding]:
        """Return the rights that the broker goes by; what was just created or deleted reaches it a little later."""
        admin = self.admin()
        return list(admin.describe_acls(_EVERY).result(_ANSWER_S))
