package pki

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/wardnet/wardnet/inventory"
)

// Stage is what happens to a device that stays away.
type Stage string

// Stages, in their order.
const (
	StageEnds       Stage = "ends"       // its certificate: no management until it is back, which it can be by itself
	StageQuarantine Stage = "quarantine" // it is no peer any more, its tunnels end, and a person has to let it back
	StageEnrol      Stage = "enrol"      // it must be enrolled anew, at the site
)

// Fate is one stage of one device.
type Fate struct {
	Device   inventory.DeviceID
	Serial   string // of its newest certificate
	NotAfter time.Time
	Stage    Stage
	At       time.Time
}

// ForecastDay are the devices that reach a stage on one day.
type ForecastDay struct {
	Day   time.Time // its beginning in the forecast's time zone
	Stage Stage
	Fates []Fate // by time
}

// First is when the first of them does.
func (d ForecastDay) First() time.Time { return d.Fates[0].At }

// Forecast says what happens from now until then to the devices of these
// certificates if they stay away and the controller does not: by day and
// stage. It is pure.
func Forecast(newest []Certificate, now, until time.Time, zone *time.Location) []ForecastDay {
	type key struct {
		day   int64
		stage Stage
	}
	days := map[key]*ForecastDay{}
	for _, c := range newest {
		for stage, at := range map[Stage]time.Time{
			StageEnds: c.NotAfter, StageQuarantine: c.NotAfter.Add(RecoverGrace), StageEnrol: c.NotAfter.Add(RecoverLimit),
		} {
			if at.Before(now) || at.After(until) {
				continue
			}
			local := at.In(zone)
			day := time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, zone)
			k := key{day.Unix(), stage}
			if days[k] == nil {
				days[k] = &ForecastDay{Day: day, Stage: stage}
			}
			days[k].Fates = append(days[k].Fates, Fate{Device: c.Device, Serial: c.Serial, NotAfter: c.NotAfter, Stage: stage, At: at})
		}
	}
	out := make([]ForecastDay, 0, len(days))
	for d := range maps.Values(days) {
		slices.SortFunc(d.Fates, func(a, b Fate) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Device, b.Device)) })
		out = append(out, *d)
	}
	slices.SortFunc(out, func(a, b ForecastDay) int { return cmp.Or(a.Day.Compare(b.Day), a.First().Compare(b.First())) })
	return out
}

// Newest is the newest certificate of every device that is declared and whose
// enrolment is not revoked, without chains.
func (p *PKI) Newest(ctx context.Context) ([]Certificate, error) {
	list, err := p.deps.Store.Newest(ctx)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(c Certificate) bool {
		_, err := p.declared(ctx, c.Device)
		return err != nil
	}), nil
}

// Search finds certificates, newest first, without their chains. A filter that
// means nothing wraps [inventory.ErrInvalid].
func (p *PKI) Search(ctx context.Context, f Filter) (Page, error) {
	f, err := f.Check()
	if err != nil {
		return Page{}, err
	}
	return p.deps.Store.Search(ctx, f)
}

// SearchBefore is [PKI.Search] of the page that follows the certificate of that
// serial number.
func (p *PKI) SearchBefore(ctx context.Context, f Filter, serial string) (Page, error) {
	c, err := p.Certificate(ctx, serial)
	if err != nil {
		return Page{}, fmt.Errorf("page after %s: %w", serial, err)
	}
	f.After = Cursor(c)
	return p.Search(ctx, f)
}

// Cursor stands for the page that follows c.
func Cursor(c Certificate) string {
	return c.IssuedAt.UTC().Format("2006-01-02T15:04:05.000000000Z") + "/" + c.Serial
}

// Certificate gives one certificate with its chain; [inventory.ErrNotFound].
func (p *PKI) Certificate(ctx context.Context, serial string) (Certificate, error) {
	return p.deps.Store.Certificate(ctx, serial)
}
