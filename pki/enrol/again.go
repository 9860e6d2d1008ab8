package enrol

import "context"

// Renew is [Identity.Renew] with the client's connections; it does not wait
// until the certificate is due.
func (c Client) Renew(ctx context.Context, i *Identity) error { return i.renewWith(ctx, c) }
