"""The manifests of launch/kubernetes, and places in them."""

FILES = ("service.yaml", "network_policy.yaml", "workdir.yaml", "jobset.yaml")
JOB = "spec replicatedJobs 0 template spec"
POD = f"{JOB} template spec"
INSTANCE = "app.kubernetes.io/instance"


def by_name(documents) -> dict[str, dict]:
    """Objects by their kind, and by a second word where their name has a second part that tells them apart."""
    objects = {}
    for each in documents:
        second = " egress" if each["metadata"]["name"].endswith("-egress") else ""
        objects[each["kind"] + second] = each
    return objects


def at(data: object, path: str) -> object:
    """The value at the end of a path of keys and indices."""
    for key in path.split():
        data = data[int(key)] if isinstance(data, list) else data[key]
    return data


def put(data: object, path: str, value: object) -> None:
    before, _, last = path.rpartition(" ")
    parent = at(data, before)
    parent[int(last) if isinstance(parent, list) else last] = value
