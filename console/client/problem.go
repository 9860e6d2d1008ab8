package client

import (
	"errors"
	"net/http"
	"strings"

	"github.com/wardnet/wardnet/inventory"
)

// Errors of the API beside those of package inventory.
var (
	// ErrUnauthenticated says that the server does not know who asks.
	ErrUnauthenticated = errors.New("not signed in")
	// ErrForbidden says that none of the caller's roles may do this.
	ErrForbidden = errors.New("forbidden")
	// ErrHeld says that a person or a window must come first; nothing is wrong.
	ErrHeld = errors.New("held")
	// ErrUnavailable says that the server cannot do it now; try again later.
	ErrUnavailable = errors.New("unavailable")
)

// TypeUnproven is the Type of a [Problem] about a revision that may not go out:
// its proof does not hold, and no waiver covers it.
const TypeUnproven = "unproven"

// TypeHeld is the Type of a [Problem] that wraps [ErrHeld].
const TypeHeld = "held"

// Error is the detail, with every fault on a line of its own.
func (p *Problem) Error() string {
	if len(p.Faults) == 0 {
		return p.Detail
	}
	return p.Detail + "\n  " + strings.Join(p.Faults, "\n  ")
}

// Unwrap gives the sentinel of the status, so that errors.Is works on both
// sides of the wire.
func (p *Problem) Unwrap() error {
	switch p.Status {
	case http.StatusNotFound:
		return inventory.ErrNotFound
	case http.StatusBadRequest, http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusPreconditionRequired:
		return inventory.ErrInvalid
	case http.StatusConflict, http.StatusPreconditionFailed:
		if p.Type == TypeHeld {
			return ErrHeld
		}
		return inventory.ErrConflict
	case http.StatusUnauthorized:
		return ErrUnauthenticated
	case http.StatusForbidden:
		return ErrForbidden
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return ErrUnavailable
	}
	return nil
}

// GetStatus is the HTTP status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is RFC 9457's, whatever was negotiated.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// HintOf finds the hint of an error of this package, or "".
func HintOf(err error) string {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p.Hint
	}
	return ""
}
