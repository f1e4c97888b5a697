"""The Merkle frontier against an implementation nobody here wrote."""

from pymerkle import InmemoryTree

from rocade.trust.authority.merkle import EMPTY_ROOT, Frontier, leaf_hash


def test_the_root_equals_that_of_pymerkle_after_every_append() -> None:
    theirs, ours = InmemoryTree(algorithm="sha256"), Frontier()
    assert ours.root == EMPTY_ROOT
    for number in range(300):
        content = f"entry {number}".encode()
        theirs.append_entry(content)
        ours.append(leaf_hash(content))
        assert ours.root == theirs.get_root(), number


def test_a_frontier_read_back_goes_on_where_it_was() -> None:
    whole, pieces = Frontier(), Frontier()
    for number in range(100):
        leaf = leaf_hash(bytes([number]))
        whole.append(leaf)
        pieces = Frontier.parse(pieces.size, bytes(pieces))
        pieces.append(leaf)
    assert pieces.root == whole.root
