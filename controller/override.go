package controller

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// override puts what the inventory adds to one device's config in it.
func override(cfg edge.Config, d *inventory.Device) (edge.Config, error) {
	if d.Override == "" {
		return cfg, nil
	}
	var change edge.Change
	dec := json.NewDecoder(bytes.NewReader([]byte(d.Override)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&change); err != nil {
		return edge.Config{}, fmt.Errorf("compile %s: %w: its override cannot be read: %w; 'wardnet drift adopt' makes one that can", d.ID, inventory.ErrInvalid, err)
	}
	for _, op := range change {
		if op.Kind == edge.KindIdentity {
			return edge.Config{}, fmt.Errorf("compile %s: %w: its override changes whose config it is; take that step out", d.ID, inventory.ErrInvalid)
		}
	}
	return change.Apply(cfg), nil
}

// OverrideOf is what an inventory must add to a device that should run want for
// it to run have, as its Override field.
func OverrideOf(want, have edge.Config) (string, error) {
	b, err := json.Marshal(edge.Diff(want, have))
	if err != nil {
		return "", fmt.Errorf("write the override of %s: %w", want.Device, err)
	}
	return string(b), nil
}
