package console

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/console/people"
	"github.com/wardnet/wardnet/controller"
	"github.com/wardnet/wardnet/edge"
	"github.com/wardnet/wardnet/inventory"
)

// Huma has one process-wide constructor for the errors it makes itself
// (validation); ours gives them the same body as every other error.
func init() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		p := &client.Problem{Status: status, Title: http.StatusText(status), Detail: msg}
		if status >= http.StatusInternalServerError {
			p.Detail = "internal error" // what huma could not write is no business of the caller's
			return p
		}
		for _, err := range errs {
			if err != nil {
				p.Faults = append(p.Faults, err.Error())
			}
		}
		p.Hint = hints[status]
		return p
	}
}

// hints say what to do next where the error itself does not.
var hints = map[int]string{
	http.StatusBadRequest:            "compare the request with the OpenAPI document at " + Prefix + "/openapi.json",
	http.StatusUnauthorized:          "sign in, or send a valid API token",
	http.StatusNotFound:              "list the collection to see what exists",
	http.StatusConflict:              "somebody else was first: reload, look at the difference and try again",
	http.StatusRequestEntityTooLarge: "send less at once",
	http.StatusUnprocessableEntity:   "nothing was changed; correct what is listed and try again",
	http.StatusTooManyRequests:       "wait for the time given in Retry-After",
	http.StatusServiceUnavailable:    "try again later",
}

func notFound(what string) *client.Problem {
	return &client.Problem{Status: http.StatusNotFound, Detail: what + ": not found"}
}

// problemOf is the one place where an error becomes a status. It returns nil
// for an unknown error, whose text is not for the caller.
func problemOf(err error) *client.Problem {
	p := &client.Problem{Detail: err.Error()}
	var faults inventory.Faults
	var slow *people.ThrottledError
	var unproven *controller.UnprovenError
	var known *client.Problem
	switch {
	case errors.As(err, &known):
		copied := *known
		p = &copied
	case errors.As(err, &slow):
		p.Status, p.Detail = http.StatusTooManyRequests, slow.Error()
	case errors.Is(err, people.ErrUnauthenticated):
		p.Status, p.Detail = http.StatusUnauthorized, people.ErrUnauthenticated.Error()
	case errors.As(err, &faults):
		p.Status, p.Detail = http.StatusUnprocessableEntity, "the inventory is not valid"
		for _, f := range faults {
			p.Faults = append(p.Faults, f.String())
		}
	case errors.As(err, &unproven):
		p.Status, p.Type, p.Faults = http.StatusConflict, client.TypeUnproven, unproven.Findings
	case errors.Is(err, controller.ErrHeld):
		p.Status, p.Type = http.StatusConflict, client.TypeHeld
		p.Hint = "this waits for a person: ask for the approval or the window that is missing"
	case errors.Is(err, inventory.ErrNotFound):
		p.Status = http.StatusNotFound
	case errors.Is(err, inventory.ErrConflict):
		p.Status = http.StatusConflict
	case errors.Is(err, edge.ErrUnreachable):
		p.Status = http.StatusServiceUnavailable
	case errors.Is(err, inventory.ErrInvalid), errors.Is(err, edge.ErrRejected):
		p.Status = http.StatusUnprocessableEntity
		if list := joined(err); len(list) > 1 {
			p.Detail, p.Faults = "the request is not valid", list
		}
	default:
		return nil
	}
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	var own interface{ Hint() string }
	switch {
	case p.Hint != "":
	case errors.As(err, &own):
		p.Hint = own.Hint()
	default:
		p.Hint = hints[p.Status]
	}
	return p
}

// joined lists the errors of an errors.Join, however deep it is wrapped.
func joined(err error) []string {
	for err != nil {
		if many, ok := err.(interface{ Unwrap() []error }); ok {
			var out []string
			for _, e := range many.Unwrap() {
				out = append(out, e.Error())
			}
			if err.Error() != strings.Join(out, "\n") {
				return nil // an fmt.Errorf with several %w is one sentence
			}
			return out
		}
		err = errors.Unwrap(err)
	}
	return nil
}

// fail turns err into what the caller sees; what only the log may see is logged
// here, once.
func (c *Console) fail(ctx context.Context, err error) error {
	p := problemOf(err)
	if p == nil {
		t := trailOf(ctx)
		if ctx.Err() != nil { // the caller left; nobody reads the answer
			return &client.Problem{Status: http.StatusServiceUnavailable, Title: http.StatusText(http.StatusServiceUnavailable), Detail: "the request was given up"}
		}
		c.deps.Log.ErrorContext(ctx, "request failed", "operation", t.op, "request", t.id, "err", err)
		return internal(t.id)
	}
	if slow, ok := errors.AsType[*people.ThrottledError](err); ok {
		return huma.ErrorWithHeaders(p, http.Header{"Retry-After": {retryAfter(slow)}})
	}
	return p
}

func retryAfter(e *people.ThrottledError) string {
	return strconv.Itoa(int(e.Wait.Seconds()) + 1)
}

func internal(request string) *client.Problem {
	return &client.Problem{
		Status: http.StatusInternalServerError, Title: http.StatusText(http.StatusInternalServerError), Detail: "internal error",
		Hint: "the controller's log names the cause under request " + request,
	}
}

func writeProblem(w http.ResponseWriter, p *client.Problem) {
	if p.Title == "" {
		p.Title = http.StatusText(p.Status)
	}
	if p.Hint == "" {
		p.Hint = hints[p.Status]
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the caller left; there is nobody to tell
}
