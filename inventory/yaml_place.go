package inventory

import (
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// lineOf is the line of the field that a path names ("sites[3].hubs[0]"), or of
// the nearest enclosing thing that is there; a missing field has its parent's.
func lineOf(root *yaml.Node, path string) int {
	n := root
	for path != "" {
		var next *yaml.Node
		next, path = step(n, path)
		if next == nil {
			break
		}
		n = next
	}
	return n.Line
}

// step follows the first part of path below n and returns what remains.
func step(n *yaml.Node, path string) (*yaml.Node, string) {
	if rest, ok := strings.CutPrefix(path, "["); ok {
		num, rest, _ := strings.Cut(rest, "]")
		i, err := strconv.Atoi(num)
		if err != nil || n.Kind != yaml.SequenceNode || i >= len(n.Content) {
			return nil, ""
		}
		return n.Content[i], strings.TrimPrefix(rest, ".")
	}
	end := strings.IndexAny(path, ".[")
	if end < 0 {
		end = len(path)
	}
	return find(n, path[:end]), strings.TrimPrefix(path[end:], ".")
}

// find is the value of a key of a mapping, or nil.
func find(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}
