package main

import (
	"context"
	"slices"

	"github.com/wardnet/wardnet/internal/store"
	"github.com/wardnet/wardnet/inventory/intent"
	"github.com/wardnet/wardnet/pki"
)

// verified shows the controller only approvals and waivers whose signature
// holds.
type verified struct {
	from *store.Revisions
	key  pki.Key
}

// WaiversOf implements [controller.Waivers].
func (v verified) WaiversOf(ctx context.Context, n intent.Number) ([]intent.Waiver, error) {
	all, err := v.from.WaiversOf(ctx, n)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(w intent.Waiver) bool { return intent.VerifyWaiver(w, v.key.Public) != nil }), nil
}

// ApprovalsOf implements [controller.Approvals].
func (v verified) ApprovalsOf(ctx context.Context, n intent.Number) ([]intent.Approval, error) {
	all, err := v.from.ApprovalsOf(ctx, n)
	if err != nil {
		return nil, err
	}
	var out []intent.Approval
	for _, a := range all {
		if intent.VerifyApproval(a, v.key.Public) == nil {
			out = append(out, a)
		}
	}
	return out, nil
}
