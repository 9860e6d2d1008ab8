package console

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/telemetry"
)

// maxPoints bounds the answer of one range query, per series.
const maxPoints = 11_000

func (c *Console) registerOverview() {
	read(c, get("/summary", "get-summary", "overview", "The city at a glance"), func(ctx context.Context, _ *nothing) (*answer[client.Summary], error) {
		sum, _, _, _, err := c.survey(ctx)
		return answered(sum, err)
	})
	read(c, get("/map", "get-map", "overview", "How to draw the city"), func(context.Context, *nothing) (*answer[client.Map], error) {
		return answered(client.Map{Outline: c.cfg.Outline, Attribution: c.cfg.Attribution}, nil)
	})
	read(c, get("/audit", "list-audit", "overview", "The audit log, newest first"), func(ctx context.Context, in *struct {
		Object string `query:"object" maxLength:"200"`
		Before uint64 `query:"before" doc:"sequence number: only older entries"`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	},
	) (*answer[[]client.AuditEntry], error) {
		return listed(c.deps.Audit.List(ctx, in.Object, in.Before, in.Limit))
	})
	read(c, get("/series", "get-series", "overview", "History of one metric; counters come as rates per second"), c.series)
	c.registerEvents()
	c.registerBackup()
}

func (c *Console) series(ctx context.Context, in *struct {
	Metric string    `query:"metric" required:"true" maxLength:"100"`
	Device string    `query:"device" maxLength:"128"`
	Object string    `query:"object" maxLength:"256"`
	From   time.Time `query:"from" required:"true"`
	To     time.Time `query:"to" required:"true"`
	Step   int       `query:"step" minimum:"1" maximum:"86400" default:"60" doc:"seconds"`
},
) (*answer[[]client.Series], error) {
	step := time.Duration(in.Step) * time.Second
	switch {
	case !in.From.Before(in.To):
		return nil, fmt.Errorf("%w: from %s is not before to %s", inventory.ErrInvalid, in.From.Format(time.RFC3339), in.To.Format(time.RFC3339))
	case in.To.Sub(in.From)/step > maxPoints:
		return nil, fmt.Errorf("%w: more than %d points per series; choose a larger step or a shorter time", inventory.ErrInvalid, maxPoints)
	}
	found, err := c.deps.History.Range(ctx, telemetry.RangeQuery{
		Metric: in.Metric, Device: inventory.DeviceID(in.Device), Object: in.Object, From: in.From.UTC(), To: in.To.UTC(), Step: step,
	})
	out := make([]client.Series, len(found))
	for i, s := range found {
		out[i] = client.Series{Device: s.Device, Site: s.Site, Object: s.Object, Points: make([]client.Point, len(s.Points))}
		for j, p := range s.Points {
			out[i].Points[j] = client.Point(p)
		}
	}
	return listed(out, err)
}

// checkOutline refuses a map outline that is no JSON, at start.
func (c *Console) checkOutline() error {
	if len(c.cfg.Outline) > 0 && !json.Valid(c.cfg.Outline) {
		return fmt.Errorf("%w: the map outline is not JSON", inventory.ErrInvalid)
	}
	return nil
}

func (c *Console) registerEvents() {
	op := get("/events", "list-events", "overview", "Live changes as server-sent events: summary, device, router, drift, basket, rollout, incident, decision")
	schema := c.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[client.Event](), true, "Event")
	op.Responses = map[string]*huma.Response{"200": {
		Description: "A stream that ends when the session does; data is the object named by event. Comments are heartbeats.",
		Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: schema}},
	}}
	huma.Register(c.api, op, c.events)
}

func (c *Console) events(ctx context.Context, _ *nothing) (*huma.StreamResponse, error) {
	sum, _, _, _, err := c.survey(ctx)
	if err != nil {
		return nil, c.fail(ctx, err)
	}
	data, err := json.Marshal(sum)
	if err != nil {
		return nil, c.fail(ctx, err)
	}
	s, err := c.hub.open(principal(ctx), client.Event{Type: "summary", Data: data})
	if err != nil {
		return nil, &client.Problem{Status: http.StatusServiceUnavailable, Title: http.StatusText(http.StatusServiceUnavailable), Detail: err.Error(), Hint: "close a window of the console"}
	}
	c.look(ctx) // what changes from here on is told
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		defer c.hub.leave(s)
		r, w := humago.Unwrap(hctx)
		c.stream(w, r, s)
	}}, nil
}

// stream writes events until the client leaves, is too slow, or is no longer
// who it was.
func (c *Console) stream(w http.ResponseWriter, r *http.Request, s *stream) {
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // for a proxy in between
	w.WriteHeader(http.StatusOK)
	send := func(format string, args ...any) bool {
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return false
		}
		if rc.Flush() != nil {
			return false
		}
		// HTTP/2 resets a stream at its write deadline though nothing is being
		// written: it must not stand over the silence between two events.
		err := rc.SetWriteDeadline(time.Time{})
		return err == nil || errors.Is(err, http.ErrNotSupported)
	}
	if !send("retry: 2000\n\n") {
		return
	}
	beat := time.NewTicker(c.cfg.Heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case e, ok := <-s.events:
			if !ok || !send("event: %s\ndata: %s\n\n", e.Type, e.Data) {
				return
			}
		case <-beat.C:
			if p, err := c.identify(r); err != nil || p.Name != s.who.Name || roleNames(p.Roles) != roleNames(s.who.Roles) {
				return
			}
			if !send(": heartbeat\n\n") {
				return
			}
		}
	}
}

func (c *Console) registerBackup() {
	op := post("/backup", "create-backup", "overview", "A consistent backup, encrypted to a given age recipient")
	op.Responses = map[string]*huma.Response{"200": {
		Description: "The encrypted archive. A connection that ends early means a backup that is not whole.",
		Content:     map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}},
	}}
	write(c, op, c.backup)
}

func (c *Console) backup(ctx context.Context, in *struct{ Body client.NewBackup }) (*huma.StreamResponse, error) {
	about(ctx, "backup")
	changed(ctx, nil, map[string]string{"recipient": clip(in.Body.Recipient), "state": "begun"})
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		_, w := humago.Unwrap(hctx)
		t := trailOf(ctx)
		out := &lateHeader{w: w, name: "wardnet-" + time.Now().UTC().Format("20060102T150405Z") + ".age"}
		err := c.deps.Backup.Backup(ctx, in.Body.Recipient, out)
		if err == nil {
			out.begin()
			return
		}
		changed(ctx, nil, nil)
		fail := c.fail(ctx, fmt.Errorf("backup: %w", err))
		p, ok := errors.AsType[*client.Problem](fail)
		if !ok {
			p = internal(t.id)
		}
		c.auditor.record(ctx, t, outcomeOf(p.Status), fail.Error())
		if out.begun {
			panic(http.ErrAbortHandler) // half an archive must not look whole
		}
		writeProblem(w, p)
	}}, nil
}

// lateHeader sends the status with the first byte, so that an error before it
// can still be told.
type lateHeader struct {
	w     http.ResponseWriter
	name  string
	begun bool
}

func (l *lateHeader) begin() {
	if !l.begun {
		l.begun = true
		l.w.Header().Set("Content-Type", "application/octet-stream")
		l.w.Header().Set("Content-Disposition", `attachment; filename="`+l.name+`"`)
		l.w.WriteHeader(http.StatusOK)
	}
}

func (l *lateHeader) Write(b []byte) (int, error) {
	l.begin()
	return l.w.Write(b)
}
