package inventory

import "context"

// Store keeps the inventory in force. Every replacement is a new version;
// versions count from 1 and only rise.
type Store interface {
	// Load returns the inventory in force and its version. Before the first
	// Replace it is the zero Inventory at version 0, without an error.
	Load(ctx context.Context) (Inventory, uint64, error)
	// Version is the version in force, without the inventory: it costs next to
	// nothing however large that is.
	Version(ctx context.Context) (uint64, error)
	// Replace puts inv in force as one atomic, durable step and returns its
	// version. It wraps [ErrConflict] when base is not the version in force;
	// then nothing has changed. The store does not validate.
	Replace(ctx context.Context, base uint64, inv Inventory) (uint64, error)
}
