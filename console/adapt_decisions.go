package console

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
	"github.com/wardnet/wardnet/policy"
)

// SubjectStore keeps the policy's subjects.
type SubjectStore interface {
	Subjects(ctx context.Context) ([]policy.Subject, error)
	ReplaceSubjects(ctx context.Context, all []policy.Subject) error
}

// LoggedDecisions is [Decisions] and [Subjects] over the policy's records.
type LoggedDecisions struct {
	records   policy.Records
	subjects  SubjectStore
	inventory Inventory
	changed   func(context.Context) error

	mu          sync.Mutex
	allow, deny int64
	next        time.Time // when to count again
}

// AdaptDecisions serves the decision log and the subjects. changed puts new
// subjects in force before the caller is answered.
func AdaptDecisions(records policy.Records, subjects SubjectStore, inv Inventory, changed func(context.Context) error) *LoggedDecisions {
	return &LoggedDecisions{records: records, subjects: subjects, inventory: inv, changed: changed}
}

// Decisions implements [Decisions].
func (l *LoggedDecisions) Decisions(ctx context.Context, f client.DecisionFilter) ([]client.Decision, error) {
	records, err := l.records.Decisions(ctx, policy.Query{
		Subject: f.Subject, Device: f.Device, Application: f.Application, Allow: f.Allow,
		From: f.Since, To: f.Until, Before: f.Before, Limit: f.Limit,
	})
	if err != nil {
		return nil, err
	}
	site, err := l.sites(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]client.Decision, len(records))
	for i, r := range records {
		out[i] = decisionView(r, site)
	}
	return out, nil
}

// Decision implements [Decisions]; only here the input is shown.
func (l *LoggedDecisions) Decision(ctx context.Context, id string) (client.Decision, error) {
	r, err := l.records.Decision(ctx, id)
	if err != nil {
		return client.Decision{}, err
	}
	site, err := l.sites(ctx)
	if err != nil {
		return client.Decision{}, err
	}
	d := decisionView(r, site)
	if d.Input, err = json.Marshal(map[string]any{"request": r.Request, "facts": r.Decision.Facts}); err != nil {
		return client.Decision{}, fmt.Errorf("show the input of decision %s: %w", id, err)
	}
	return d, nil
}

// sites maps devices to sites, as declared now.
func (l *LoggedDecisions) sites(ctx context.Context) (map[inventory.DeviceID]inventory.SiteID, error) {
	inv, _, err := l.inventory.Load(ctx)
	if err != nil {
		return nil, err
	}
	site := make(map[inventory.DeviceID]inventory.SiteID, len(inv.Devices))
	for _, d := range inv.Devices {
		site[d.ID] = d.Site
	}
	return site, nil
}

func decisionView(r policy.Record, site map[inventory.DeviceID]inventory.SiteID) client.Decision {
	q, d := r.Request, r.Decision
	out := client.Decision{
		ID: d.ID, At: q.At, Allow: d.Allow, Subject: q.Subject, Device: string(q.Device), Site: string(site[q.Device]),
		Application: string(q.Application), Action: q.Action, Rule: d.Rule, Code: string(d.Code), Reason: d.Detail,
		PolicyRev: d.PolicyRev, DataRev: d.DataRev, Hash: r.Hash,
	}
	var why, remedy []string
	for _, x := range d.Reasons {
		why = append(why, fmt.Sprintf("%s: %s is %q, wanted %s", x.Rule, x.Attribute, x.Value, x.Want))
		remedy = append(remedy, x.Remedy)
	}
	if why != nil {
		out.Reason, out.Remedy = strings.Join(why, "; "), strings.Join(remedy, "; ")
	}
	return out
}

// CountDecisions implements [Decisions]. A count reads the whole log, so it is
// made at most once a second and takes at most a twentieth of the time.
func (l *LoggedDecisions) CountDecisions(ctx context.Context) (allow, deny int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if start := time.Now(); start.After(l.next) {
		if l.allow, l.deny, err = l.records.CountDecisions(ctx); err != nil {
			return 0, 0, fmt.Errorf("count decisions: %w", err)
		}
		l.next = time.Now().Add(max(time.Second, 20*time.Since(start)))
	}
	return l.allow, l.deny, nil
}

// Subjects implements [Subjects].
func (l *LoggedDecisions) Subjects(ctx context.Context) ([]client.Subject, error) {
	all, err := l.subjects.Subjects(ctx)
	if err != nil {
		return nil, fmt.Errorf("read subjects: %w", err)
	}
	out := make([]client.Subject, len(all))
	for i, s := range all {
		out[i] = client.Subject(s)
	}
	return out, nil
}

// PutSubjects implements [Subjects].
func (l *LoggedDecisions) PutSubjects(ctx context.Context, all []client.Subject, _ string) error {
	rows := make([]policy.Subject, len(all))
	for i, s := range all {
		rows[i] = policy.Subject(s)
	}
	if err := l.subjects.ReplaceSubjects(ctx, rows); err != nil {
		return fmt.Errorf("replace subjects: %w", err)
	}
	if err := l.changed(ctx); err != nil {
		return fmt.Errorf("put the subjects in force: %w", err)
	}
	return nil
}
