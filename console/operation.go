package console

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/wardnet/wardnet/console/client"
)

// answer is an operation's output with a JSON body.
type answer[T any] struct{ Body T }

func answered[T any](v T, err error) (*answer[T], error) {
	if err != nil {
		return nil, err
	}
	return &answer[T]{Body: v}, nil
}

// listed is answered for lists: an empty one is [] and never null.
func listed[T any](v []T, err error) (*answer[[]T], error) {
	if v == nil {
		v = []T{}
	}
	return answered(v, err)
}

// nothing is the input or output of an operation that has none.
type nothing struct{}

// route describes an operation to the API and its document.
func route(method, path, id, tag, summary string) huma.Operation {
	op := huma.Operation{Method: method, Path: path, OperationID: id, Tags: []string{tag}, Summary: summary}
	if isPublic(id) {
		op.Security = []map[string][]string{{}}
	}
	return op
}

func get(path, id, tag, summary string) huma.Operation {
	return route(http.MethodGet, path, id, tag, summary)
}

func post(path, id, tag, summary string) huma.Operation {
	return route(http.MethodPost, path, id, tag, summary)
}

// read registers an operation that changes nothing.
func read[I, O any](c *Console, op huma.Operation, fn func(context.Context, *I) (*O, error)) {
	op.BodyReadTimeout = c.cfg.BodyTimeout
	huma.Register(c.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := fn(ctx, in)
		if err != nil {
			return nil, c.fail(ctx, err)
		}
		return out, nil
	})
}

// write registers an operation that changes something. Its audit entry is
// stored before the caller hears of the outcome.
func write[I, O any](c *Console, op huma.Operation, fn func(context.Context, *I) (*O, error)) {
	op.BodyReadTimeout = max(op.BodyReadTimeout, c.cfg.BodyTimeout)
	huma.Register(c.api, op, func(ctx context.Context, in *I) (*O, error) {
		t := trailOf(ctx)
		defer func() {
			if v := recover(); v != nil {
				c.auditor.record(ctx, t, outcomeFailed, "internal error")
				panic(v)
			}
		}()
		out, err := fn(ctx, in)
		if err != nil {
			err = c.fail(ctx, err)
			status := http.StatusInternalServerError
			if p, ok := errors.AsType[*client.Problem](err); ok {
				status = p.Status
			}
			t.after = nil
			c.auditor.record(ctx, t, outcomeOf(status), err.Error())
			return nil, err
		}
		c.auditor.record(ctx, t, outcomeDone, "")
		return out, nil
	})
}
