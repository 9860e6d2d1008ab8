package console

import (
	"context"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

func (c *Console) registerIncidents() {
	read(c, get("/incidents", "list-incidents", "incidents", "Incidents, newest first"), func(ctx context.Context, in *struct {
		State string `query:"state" enum:"open,acknowledged,resolved"`
	},
	) (*answer[[]client.Incident], error) {
		all, err := c.deps.Incidents.Incidents(ctx)
		if in.State != "" {
			kept := []client.Incident{}
			for _, i := range all {
				if i.State == in.State {
					kept = append(kept, i)
				}
			}
			all = kept
		}
		return listed(all, err)
	})
	read(c, get("/incidents/{id}", "get-incident", "incidents", "One incident with findings, timeline and evidence"), func(ctx context.Context, in *byID) (*answer[client.Incident], error) {
		return answered(c.deps.Incidents.Incident(ctx, in.ID))
	})
	read(c, get("/findings", "list-findings", "incidents", "Findings of the detectors, newest first"), func(ctx context.Context, in *struct {
		Device string `query:"device" maxLength:"128"`
		Site   string `query:"site" maxLength:"128"`
		Open   bool   `query:"open"`
		Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100"`
	},
	) (*answer[[]client.Finding], error) {
		return listed(c.deps.Incidents.Findings(ctx, client.FindingFilter{
			Device: inventory.DeviceID(in.Device), Site: inventory.SiteID(in.Site), Open: in.Open, Limit: in.Limit,
		}))
	})
	for action, summary := range map[string]string{
		"ack":     "Acknowledge an incident",
		"assign":  "Give an incident an owner",
		"resolve": "Resolve an incident by hand",
	} {
		write(c, post("/incidents/{id}/"+action, action+"-incident", "incidents", summary), func(ctx context.Context, in *struct {
			ID   string `path:"id" maxLength:"128"`
			Body client.IncidentAction
		},
		) (*answer[client.Incident], error) {
			about(ctx, "incident/"+in.ID)
			before, err := c.deps.Incidents.Incident(ctx, in.ID)
			if err != nil {
				return nil, err
			}
			after, err := c.deps.Incidents.Act(ctx, in.ID, action, in.Body, principal(ctx).Name)
			if err == nil {
				changed(ctx, stand(before), stand(after))
			}
			return answered(after, err)
		})
	}
}

// stand is what an action on an incident changes.
func stand(i client.Incident) map[string]string {
	return map[string]string{"state": i.State, "owner": i.Owner}
}
