package openconfig

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/wardnet/wardnet/edge/foreign"
)

var (
	_ foreign.Texter = (*Box)(nil)
	_ foreign.Texter = (*Later)(nil)
)

// Text implements [foreign.Texter]: the models that we write to as the device has
// them, ours and what is not, as JSON (RFC 7951, without module names). complete is
// always true, for an answer that is cut off is an error.
func (b *Box) Text(ctx context.Context) (text string, complete bool, err error) {
	tree, err := b.tree(ctx)
	if err != nil {
		return "", false, err
	}
	out, err := json.MarshalIndent(tree.plain(), "", " ")
	if err != nil {
		return "", false, fmt.Errorf("write JSON: %w", err)
	}
	return string(out) + "\n", true, nil
}

// Text implements [foreign.Texter].
func (l *Later) Text(ctx context.Context) (text string, complete bool, err error) {
	err = l.with(ctx, func(box foreign.Box) (err error) {
		t, ok := box.(foreign.Texter)
		if !ok {
			complete = true
			return nil
		}
		text, complete, err = t.Text(ctx)
		return err
	})
	return text, complete, err
}

// plain is n as JSON has it; entries of a list are in the order of their keys.
func (n *node) plain() any {
	if n.leaf != nil {
		return n.leaf
	}
	out := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(n.kids)) {
		k := n.kids[name]
		if len(k.elem.keys) == 0 {
			out[name] = k.plain()
			continue
		}
		list, _ := out[k.elem.name].([]any)
		out[k.elem.name] = append(list, k.plain())
	}
	return out
}
