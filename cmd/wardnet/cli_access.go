package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

func newDecision() *cobra.Command {
	var f client.DecisionFilter
	var only string
	return group(
		"decision", "Zero Trust decisions",
		verb[[]client.Decision]{
			use: "list", short: "List logged decisions, newest first", example: "wardnet decision list --subject lan.nguyen --result deny",
			ask: func(ctx context.Context, c *client.Client, _ []string) ([]client.Decision, error) {
				switch only {
				case "":
				case "allow", "deny":
					allow := only == "allow"
					f.Allow = &allow
				default:
					return nil, fmt.Errorf("%w: --result %q is not allow or deny", inventory.ErrInvalid, only)
				}
				if err := limited(f.Limit); err != nil {
					return nil, err
				}
				return c.Decisions(ctx, f)
			},
			show: func(w io.Writer, v []client.Decision) {
				row(w, "AT", "RESULT", "SUBJECT", "DEVICE", "APPLICATION", "CODE", "ID")
				for _, d := range v {
					row(w, d.At, map[bool]string{true: "allow", false: "deny"}[d.Allow], d.Subject, d.Device, d.Application, d.Code, d.ID)
				}
				none(w, len(v), "decisions")
			},
			flags: func(cmd *cobra.Command) {
				cmd.Flags().StringVar(&f.Subject, "subject", "", "only this person or service")
				cmd.Flags().StringVar(&f.Device, "device", "", "only through this device")
				cmd.Flags().StringVar(&f.Application, "application", "", "only to this application")
				cmd.Flags().StringVar(&only, "result", "", "allow or deny")
				cmd.Flags().IntVar(&f.Limit, "limit", 100, "at most so many")
			},
		}.command(),
		verb[client.Decision]{
			use: "show ID", short: "Show a decision with its reasons", example: "wardnet decision show 019ab2…", args: cobra.ExactArgs(1),
			ask: func(ctx context.Context, c *client.Client, args []string) (client.Decision, error) {
				return c.Decision(ctx, args[0])
			},
			show: func(w io.Writer, d client.Decision) {
				row(w, "decision", d.ID)
				row(w, "at", d.At)
				row(w, "result", map[bool]string{true: "allow", false: "deny"}[d.Allow])
				row(w, "who", d.Subject)
				row(w, "through", d.Device+" at "+d.Site)
				row(w, "what", d.Action+" "+d.Application)
				row(w, "rule", d.Rule)
				row(w, "code", d.Code)
				row(w, "reason", d.Reason)
				row(w, "remedy", d.Remedy)
				row(w, "policy", d.PolicyRev)
				row(w, "facts", d.DataRev)
				row(w, "hash", d.Hash)
			},
		}.command(),
	)
}

func showIncident(w io.Writer, i client.Incident) {
	row(w, "incident", i.ID)
	row(w, "ticket", i.Ticket)
	row(w, "title", i.Title["vi"])
	row(w, "", i.Title["en"])
	row(w, "state", i.State)
	row(w, "severity", i.Severity+": "+i.SeverityBy)
	row(w, "cause", fmt.Sprintf("%s %s (confidence %.0f %%)", i.CauseKind, i.Cause, 100*i.Confidence))
	row(w, "owner", i.Owner)
	row(w, "first symptom", i.Started)
	row(w, "opened", i.Opened)
	row(w, "resolved", i.Resolved)
	members := make([]string, len(i.Members))
	for k, m := range i.Members {
		members[k] = string(m)
	}
	row(w, "members", fmt.Sprintf("%d: %s", len(members), strings.Join(members, " ")))
	for _, e := range i.Evidence {
		row(w, "evidence", e)
	}
	for _, s := range i.Suggested {
		row(w, "suggested", s)
	}
	for _, t := range i.Timeline {
		row(w, "timeline", fmt.Sprintf("%s %s %s %s", shown(t.At), t.Who, t.What, t.Text))
	}
}

func newIncident() *cobra.Command {
	var state, text string
	act := func(name, short string, do func(ctx context.Context, c *client.Client, id string) (client.Incident, error)) *cobra.Command {
		return verb[client.Incident]{
			use: name + " ID", short: short, example: "wardnet incident " + name + " 019ab2… --text 'carrier called'", args: cobra.ExactArgs(1),
			ask: func(ctx context.Context, c *client.Client, args []string) (client.Incident, error) {
				return do(ctx, c, args[0])
			},
			show:  showIncident,
			flags: func(cmd *cobra.Command) { cmd.Flags().StringVar(&text, "text", "", "a note for the timeline") },
		}.command()
	}
	return group(
		"incident", "Incidents and their tickets",
		verb[[]client.Incident]{
			use: "list", short: "List incidents, newest first", example: "wardnet incident list --state open",
			ask: func(ctx context.Context, c *client.Client, _ []string) ([]client.Incident, error) {
				return c.Incidents(ctx, state)
			},
			show: func(w io.Writer, v []client.Incident) {
				row(w, "TICKET", "STATE", "SEVERITY", "STARTED", "MEMBERS", "CAUSE", "TITLE", "ID")
				for _, i := range v {
					row(w, i.Ticket, i.State, i.Severity, i.Started, len(i.Members), i.CauseKind+" "+i.Cause, i.Title["vi"], i.ID)
				}
				none(w, len(v), "incidents")
			},
			flags: func(cmd *cobra.Command) { cmd.Flags().StringVar(&state, "state", "", "open, acknowledged or resolved") },
		}.command(),
		verb[client.Incident]{
			use: "show ID", short: "Show an incident with ticket, timeline and evidence", example: "wardnet incident show 019ab2…", args: cobra.ExactArgs(1),
			ask: func(ctx context.Context, c *client.Client, args []string) (client.Incident, error) {
				return c.Incident(ctx, args[0])
			},
			show: showIncident,
		}.command(),
		act("ack", "Acknowledge an incident", func(ctx context.Context, c *client.Client, id string) (client.Incident, error) {
			return c.AckIncident(ctx, id, text)
		}),
		act("resolve", "Resolve an incident by hand", func(ctx context.Context, c *client.Client, id string) (client.Incident, error) {
			return c.ResolveIncident(ctx, id, text)
		}),
	)
}

func newUser() *cobra.Command {
	var full, file string
	var roles []string
	return group(
		"user", "People who sign in",
		verb[[]client.User]{
			use: "list", short: "List users", example: "wardnet user list",
			ask: func(ctx context.Context, c *client.Client, _ []string) ([]client.User, error) { return c.Users(ctx) },
			show: func(w io.Writer, v []client.User) {
				row(w, "NAME", "ROLES", "DISABLED", "LAST SEEN", "FULL NAME")
				for _, u := range v {
					row(w, u.Name, fmt.Sprint(u.Roles), u.Disabled, u.LastSeen, u.FullName)
				}
				none(w, len(v), "users")
			},
		}.command(),
		verb[client.User]{
			use: "create NAME", short: "Create a user; the password comes from a file", example: "wardnet user create lan --role engineer --full-name 'Nguyễn Thị Lan' --password-file pw", args: cobra.ExactArgs(1),
			ask: func(ctx context.Context, c *client.Client, args []string) (client.User, error) {
				pw, err := readSecret(file)
				if err != nil {
					return client.User{}, err
				}
				n := client.NewUser{Name: args[0], FullName: full, Password: pw}
				for _, r := range roles {
					n.Roles = append(n.Roles, client.Role(r))
				}
				return c.CreateUser(ctx, n)
			},
			show: func(w io.Writer, u client.User) { row(w, "created", u.Name, fmt.Sprint(u.Roles)) },
			flags: func(cmd *cobra.Command) {
				cmd.Flags().StringVar(&full, "full-name", "", "the person's name (required)")
				cmd.Flags().StringSliceVar(&roles, "role", nil, "admin, engineer, security, noc or auditor; may be repeated (required)")
				cmd.Flags().StringVar(&file, "password-file", "", "file (0600) that holds the first password (required)")
			},
		}.command(),
	)
}

func newToken() *cobra.Command {
	var name string
	var scopes []string
	var life time.Duration
	return group(
		"token", "API tokens of the signed-in user",
		verb[[]client.APIToken]{
			use: "list", short: "List API tokens, without secrets", example: "wardnet token list",
			ask: func(ctx context.Context, c *client.Client, _ []string) ([]client.APIToken, error) {
				return c.Tokens(ctx)
			},
			show: func(w io.Writer, v []client.APIToken) {
				row(w, "ID", "USER", "NAME", "SCOPES", "EXPIRES")
				for _, t := range v {
					row(w, t.ID, t.User, t.Name, fmt.Sprint(t.Scopes), t.Expires)
				}
				none(w, len(v), "tokens")
			},
		}.command(),
		verb[client.APIToken]{
			use: "create", short: "Create an API token; its secret is shown once", example: "wardnet token create --name backup --scope auditor --life 720h",
			ask: func(ctx context.Context, c *client.Client, _ []string) (client.APIToken, error) {
				n := client.NewToken{Name: name, Expires: time.Now().Add(life).UTC()}
				for _, s := range scopes {
					n.Scopes = append(n.Scopes, client.Role(s))
				}
				return c.CreateToken(ctx, n)
			},
			show: func(w io.Writer, t client.APIToken) { fmt.Fprintln(w, t.Secret) },
			flags: func(cmd *cobra.Command) {
				cmd.Flags().StringVar(&name, "name", "", "what it is for")
				cmd.Flags().StringSliceVar(&scopes, "scope", nil, "roles it may use, at most the user's")
				cmd.Flags().DurationVar(&life, "life", 24*time.Hour, "how long it is valid")
			},
		}.command(),
	)
}
