package console

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/wardnet/wardnet/anomaly"
	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/incident"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/telemetry"
)

// maxFindings bounds the findings kept for the list; the incidents keep theirs.
const maxFindings = 10_000

// TicketBook is [Incidents] over the incident book and the detectors' findings.
type TicketBook struct {
	book      *incident.Book
	inventory Inventory

	mu       sync.Mutex
	findings map[string]anomaly.Finding
	order    []string // of arrival, oldest first
	count    int64
}

// AdaptIncidents serves the incidents of book. Give every finding to
// [TicketBook.Observe] too.
func AdaptIncidents(book *incident.Book, inv Inventory) *TicketBook {
	return &TicketBook{book: book, inventory: inv, findings: map[string]anomaly.Finding{}}
}

// Observe keeps a finding that opened or cleared.
func (t *TicketBook) Observe(f anomaly.Finding) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.findings[f.ID]; !known {
		t.count++
		t.order = append(t.order, f.ID)
		if len(t.order) > maxFindings {
			delete(t.findings, t.order[0])
			t.order = t.order[1:]
		}
	}
	t.findings[f.ID] = f
}

// CountFindings implements [Incidents].
func (t *TicketBook) CountFindings(context.Context) (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count, nil
}

// Findings implements [Incidents].
func (t *TicketBook) Findings(ctx context.Context, f client.FindingFilter) ([]client.Finding, error) {
	inv, _, err := t.inventory.Load(ctx)
	if err != nil {
		return nil, err
	}
	site := make(map[inventory.DeviceID]inventory.SiteID, len(inv.Devices))
	for _, d := range inv.Devices {
		site[d.ID] = d.Site
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	out := []client.Finding{}
	for _, id := range slices.Backward(t.order) {
		v := findingView(t.findings[id], site[t.findings[id].Device])
		if (f.Device == "" || f.Device == v.Device) && (f.Site == "" || f.Site == v.Site) && (!f.Open || v.To == nil) {
			if out = append(out, v); len(out) == cmp.Or(f.Limit, 100) {
				break
			}
		}
	}
	return out, nil
}

func findingView(f anomaly.Finding, site inventory.SiteID) client.Finding {
	return client.Finding{
		ID: f.ID, Device: f.Device, Site: site, Object: f.Object, Kind: string(f.Kind), Severity: string(f.Severity),
		Score: f.Score, Expected: f.Expected, Actual: f.Actual, Why: f.Why, From: f.From, To: timeOrNil(f.To),
	}
}

// Incidents implements [Incidents].
func (t *TicketBook) Incidents(ctx context.Context) ([]client.Incident, error) {
	all, err := t.book.List(ctx, incident.Filter{})
	if err != nil {
		return nil, fmt.Errorf("list incidents: %w", err)
	}
	out := make([]client.Incident, len(all))
	for i, x := range all {
		out[i] = incidentView(x)
	}
	return out, nil
}

// Incident implements [Incidents].
func (t *TicketBook) Incident(ctx context.Context, id string) (client.Incident, error) {
	x, err := t.book.Get(ctx, id)
	if err != nil {
		return client.Incident{}, err
	}
	return incidentView(x), nil
}

// Act implements [Incidents].
func (t *TicketBook) Act(ctx context.Context, id, action string, what client.IncidentAction, by string) (client.Incident, error) {
	var x incident.Incident
	var err error
	switch action {
	case "ack":
		x, err = t.book.Ack(ctx, id, by)
	case "assign":
		if what.Owner == "" {
			return client.Incident{}, fmt.Errorf("%w: assign incident %s: an owner is needed", inventory.ErrInvalid, id)
		}
		x, err = t.book.Assign(ctx, id, what.Owner, by)
	case "resolve":
		if what.Text == "" {
			return client.Incident{}, fmt.Errorf("%w: resolve incident %s: say why it is over", inventory.ErrInvalid, id)
		}
		x, err = t.book.Resolve(ctx, id, by, what.Text)
	default:
		err = fmt.Errorf("%w: incident action %q", inventory.ErrInvalid, action)
	}
	if err != nil {
		return client.Incident{}, err
	}
	return incidentView(x), nil
}

// incidentView shows an incident; its ticket is the incident itself.
func incidentView(x incident.Incident) client.Incident {
	out := client.Incident{
		ID: x.ID, Title: x.Title, Severity: string(x.Severity), SeverityBy: x.SeverityWhy, State: string(x.State),
		CauseKind: string(x.Cause.Kind), Cause: x.Cause.ID, Confidence: x.Confidence, Owner: x.Owner,
		Started: x.Started, Opened: x.Opened, Resolved: timeOrNil(x.Resolved), Reopened: x.Reopened,
		Members: x.Members, Ticket: x.ID, Evidence: x.Evidence, Suggested: x.Suggested,
	}
	if out.Members == nil {
		out.Members = []inventory.SiteID{}
	}
	for _, s := range x.Symptoms {
		out.Findings = append(out.Findings, findingView(s.Finding, s.Site))
	}
	for _, e := range x.Timeline {
		out.Timeline = append(out.Timeline, client.TimelineEntry(e))
	}
	return out
}

// StoredHistory is [History] over the embedded time series.
type StoredHistory struct{ *telemetry.History }

// Samples implements [History].
func (h StoredHistory) Samples() int64 { return int64(h.Stored()) }
