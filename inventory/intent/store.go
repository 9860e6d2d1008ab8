package intent

import "context"

// Store keeps revisions. It is append-only: nothing is changed or removed.
type Store interface {
	// Append stores r durably. It wraps [inventory.ErrConflict] unless
	// r.Number is the highest stored number plus one.
	Append(ctx context.Context, r Revision) error
	// Get returns one revision with its content, or wraps
	// [inventory.ErrNotFound].
	Get(ctx context.Context, n Number) (Revision, error)
	// Latest returns the revision with the highest number, or wraps
	// [inventory.ErrNotFound] when there is none.
	Latest(ctx context.Context) (Revision, error)
	// List returns all revisions, oldest first, with zero Content and Envelope.
	List(ctx context.Context) ([]Revision, error)
}

// Approvals keeps approvals. It is append-only.
type Approvals interface {
	// AppendApproval stores a durably. It wraps [inventory.ErrNotFound] when
	// the revision is unknown; it does not judge a, see [Approval.Valid].
	AppendApproval(ctx context.Context, a Approval) error
	// ApprovalsOf returns the approvals that name n, oldest first; none is no
	// error.
	ApprovalsOf(ctx context.Context, n Number) ([]Approval, error)
}
