package client

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

func text(q url.Values, key, value string) {
	if value != "" {
		q.Set(key, value)
	}
}

func count(q url.Values, key string, n int) {
	if n > 0 {
		q.Set(key, strconv.Itoa(n))
	}
}

// Decisions lists logged decisions, newest first.
func (c *Client) Decisions(ctx context.Context, f DecisionFilter) ([]Decision, error) {
	q := url.Values{}
	text(q, "subject", f.Subject)
	text(q, "device", f.Device)
	text(q, "application", f.Application)
	text(q, "before", f.Before)
	if f.Allow != nil {
		q.Set("allow", strconv.FormatBool(*f.Allow))
	}
	rfc3339(q, "since", f.Since)
	rfc3339(q, "until", f.Until)
	count(q, "limit", f.Limit)
	return read[[]Decision](ctx, c, "/decisions", q)
}

// Decision returns one decision with its input.
func (c *Client) Decision(ctx context.Context, id string) (Decision, error) {
	return read[Decision](ctx, c, at("decisions", id), nil)
}

// Subjects lists the persons and services the policy knows.
func (c *Client) Subjects(ctx context.Context) ([]Subject, error) {
	s, err := read[Subjects](ctx, c, "/subjects", nil)
	return s.Subjects, err
}

// PutSubjects replaces them all.
func (c *Client) PutSubjects(ctx context.Context, all []Subject) error {
	if all == nil {
		all = []Subject{}
	}
	_, err := write[Subjects](ctx, c, http.MethodPut, "/subjects", Subjects{Subjects: all})
	return err
}

// Incidents lists incidents, newest first; state "" means all.
func (c *Client) Incidents(ctx context.Context, state string) ([]Incident, error) {
	q := url.Values{}
	text(q, "state", state)
	return read[[]Incident](ctx, c, "/incidents", q)
}

// Incident returns one incident with findings, timeline and evidence.
func (c *Client) Incident(ctx context.Context, id string) (Incident, error) {
	return read[Incident](ctx, c, at("incidents", id), nil)
}

// AckIncident acknowledges an incident.
func (c *Client) AckIncident(ctx context.Context, id, text string) (Incident, error) {
	return write[Incident](ctx, c, http.MethodPost, at("incidents", id, "ack"), IncidentAction{Text: text})
}

// AssignIncident gives an incident an owner.
func (c *Client) AssignIncident(ctx context.Context, id, owner, text string) (Incident, error) {
	return write[Incident](ctx, c, http.MethodPost, at("incidents", id, "assign"), IncidentAction{Owner: owner, Text: text})
}

// ResolveIncident resolves an incident by hand.
func (c *Client) ResolveIncident(ctx context.Context, id, text string) (Incident, error) {
	return write[Incident](ctx, c, http.MethodPost, at("incidents", id, "resolve"), IncidentAction{Text: text})
}

// Findings lists findings, newest first.
func (c *Client) Findings(ctx context.Context, f FindingFilter) ([]Finding, error) {
	q := url.Values{}
	text(q, "device", string(f.Device))
	text(q, "site", string(f.Site))
	if f.Open {
		q.Set("open", "true")
	}
	count(q, "limit", f.Limit)
	return read[[]Finding](ctx, c, "/findings", q)
}

// Summary is the city at a glance.
func (c *Client) Summary(ctx context.Context) (Summary, error) {
	return read[Summary](ctx, c, "/summary", nil)
}

// Map says how to draw the city.
func (c *Client) Map(ctx context.Context) (Map, error) {
	return read[Map](ctx, c, "/map", nil)
}

// Audit lists audit entries, newest first.
func (c *Client) Audit(ctx context.Context, f AuditFilter) ([]AuditEntry, error) {
	q := url.Values{}
	text(q, "object", f.Object)
	if f.Before > 0 {
		q.Set("before", strconv.FormatUint(f.Before, 10))
	}
	count(q, "limit", f.Limit)
	return read[[]AuditEntry](ctx, c, "/audit", q)
}

// Series answers a range query.
func (c *Client) Series(ctx context.Context, s SeriesQuery) ([]Series, error) {
	q := url.Values{"metric": {s.Metric}}
	text(q, "device", string(s.Device))
	text(q, "object", s.Object)
	rfc3339(q, "from", s.From)
	rfc3339(q, "to", s.To)
	count(q, "step", int(s.Step.Seconds()))
	return read[[]Series](ctx, c, "/series", q)
}

// Events calls fn with every live event until ctx ends, fn fails, or the server
// closes the stream; then the caller loads what it shows again and reopens.
func (c *Client) Events(ctx context.Context, fn func(Event) error) error {
	res, err := c.send(ctx, request{method: http.MethodGet, path: "/events", header: map[string]string{"Accept": "text/event-stream"}})
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := readEvents(res.Body, fn); err != nil {
		return fmt.Errorf("GET /events: %w", err)
	}
	return nil
}

// maxEvent bounds one line of the stream, in bytes.
const maxEvent = 16 << 20

// readEvents parses an event stream (WHATWG HTML, "server-sent events"): the
// fields event and data; comments, ids and retry are skipped.
func readEvents(r io.Reader, fn func(Event) error) error {
	sc := bufio.NewScanner(r)
	sc.Buffer(make([]byte, 0, 64<<10), maxEvent)
	var kind string
	var data bytes.Buffer
	for sc.Scan() {
		line := strings.TrimSuffix(sc.Text(), "\r")
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && data.Len() == 0:
			kind = ""
		case line == "": // ends an event
			e := Event{Type: kind, Data: bytes.Clone(data.Bytes())}
			kind = ""
			data.Reset()
			if err := fn(e); err != nil {
				return err
			}
		case field == "event":
			kind = value
		case field == "data":
			if data.Len()+len(value) > maxEvent {
				return fmt.Errorf("an event is larger than %d bytes", maxEvent)
			}
			if data.Len() > 0 {
				data.WriteByte('\n')
			}
			data.WriteString(value)
		}
	}
	return sc.Err()
}
