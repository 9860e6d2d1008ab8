// Package people knows who may use Wardnet: users and their passwords,
// sessions, API tokens, the first administrator and break-glass. It decides who
// somebody is and which roles they hold; what a role may do is the console's
// table.
package people

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wardnet/wardnet/console/client"
	"github.com/wardnet/wardnet/inventory"
)

// ErrUnauthenticated says that nobody is known behind a credential. Its text
// never tells which part was wrong.
var ErrUnauthenticated = errors.New("not signed in")

// ThrottledError says that too many attempts were made; Wait is how long the
// next one will be refused without being looked at.
type ThrottledError struct{ Wait time.Duration }

func (e *ThrottledError) Error() string {
	return fmt.Sprintf("too many attempts; try again in %s", e.Wait.Round(time.Second))
}

// AllRoles lists every role, in the order screens show them.
var AllRoles = []client.Role{client.RoleAdmin, client.RoleEngineer, client.RoleSecurity, client.RoleNOC, client.RoleAuditor}

// User is a stored user.
type User struct {
	client.User
	Password string // PHC string, see [HashPassword]
	// Generation rises when the password or the roles change or the user is
	// disabled; sessions begun under an older one are void.
	Generation int64
}

// Principal is who makes a request and what they may be.
type Principal struct {
	Name    string
	Roles   []client.Role
	Via     Via
	CSRF    string    // of a session; empty otherwise
	Expires time.Time // of the credential; zero: with the connection
}

// Via says how a principal was recognised.
type Via string

// Ways to be recognised.
const (
	ViaSession    Via = "session"
	ViaToken      Via = "token"
	ViaBreakGlass Via = "break-glass"
)

// Has says whether p holds at least one of roles.
func (p Principal) Has(roles ...client.Role) bool {
	return slices.ContainsFunc(roles, func(r client.Role) bool { return slices.Contains(p.Roles, r) })
}

// UserStore keeps users. Names are already in their canonical form.
type UserStore interface {
	// CreateUser fails with [inventory.ErrConflict] when the name was ever used.
	CreateUser(ctx context.Context, u User) error
	User(ctx context.Context, name string) (User, error) // inventory.ErrNotFound
	Users(ctx context.Context) ([]User, error)           // by name
	// UpdateUser changes one user in one transaction. The function also gets
	// the number of enabled administrators, the user included.
	UpdateUser(ctx context.Context, name string, change func(u *User, admins int) error) (before, after User, err error)
	// SeenUser notes the last login.
	SeenUser(ctx context.Context, name string, at time.Time) error
}

// Deps are required unless said otherwise.
type Deps struct {
	Users    UserStore
	Sessions SessionStore
	Tokens   TokenStore
	Setup    SetupStore
	Log      *slog.Logger
	Reg      prometheus.Registerer // nil: metrics work, nobody collects them
}

// Config holds the knobs; zero means default.
type Config struct {
	Idle      time.Duration // a session unused this long ends; default 30 min
	Lifetime  time.Duration // a session ends after this however much it is used; default 12 h
	TokenLife time.Duration // the longest life of an API token; default 366 days
	SetupLife time.Duration // of the first administrator's link; default 24 h
	Hash      HashParams    // for new passwords; default [DefaultHash]
}

func (c Config) withDefaults() Config {
	if c.Idle == 0 {
		c.Idle = 30 * time.Minute
	}
	if c.Lifetime == 0 {
		c.Lifetime = 12 * time.Hour
	}
	if c.TokenLife == 0 {
		c.TokenLife = 366 * 24 * time.Hour
	}
	if c.SetupLife == 0 {
		c.SetupLife = 24 * time.Hour
	}
	if c.Hash == (HashParams{}) {
		c.Hash = DefaultHash
	}
	return c
}

// Directory is the people of one installation.
type Directory struct {
	deps     Deps
	cfg      Config
	hasher   *hasher
	throttle *throttle
	sessions sessions
	metrics  *metrics
}

// New makes a Directory. It fails when the hash parameters are out of bounds.
func New(deps Deps, cfg Config) (*Directory, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Hash.check(); err != nil {
		return nil, fmt.Errorf("people: %w", err)
	}
	h, err := newHasher(cfg.Hash)
	if err != nil {
		return nil, err
	}
	return &Directory{
		deps:     deps,
		cfg:      cfg,
		hasher:   h,
		throttle: newThrottle(),
		sessions: newSessions(deps.Sessions, cfg),
		metrics:  newMetrics(deps.Reg),
	}, nil
}

// Names are short, lower case and cannot be mistaken for "root (break-glass)"
// or look alike in another script.
var namePattern = regexp.MustCompile(`^[a-z][a-z0-9._-]{1,63}$`)

// reserved names belong to the system and to the unix administrator.
var reserved = []string{"root", "wardnet"}

func checkName(name string) error {
	if !namePattern.MatchString(name) || slices.Contains(reserved, name) {
		return fmt.Errorf("%w: user name %q: use 2 to 64 of a-z, 0-9, dot, dash and underscore, beginning with a letter, and not root or wardnet", inventory.ErrInvalid, name)
	}
	return nil
}

func checkFullName(s string) error {
	if s == "" || len(s) > 200 {
		return fmt.Errorf("%w: full name: between 1 and 200 bytes are needed, not %d", inventory.ErrInvalid, len(s))
	}
	return nil
}

// checkRoles returns roles sorted and without repetition.
func checkRoles(roles []client.Role) ([]client.Role, error) {
	for _, r := range roles {
		if !slices.Contains(AllRoles, r) {
			return nil, fmt.Errorf("%w: role %q is none of %v", inventory.ErrInvalid, r, AllRoles)
		}
	}
	out := slices.Clone(roles)
	slices.Sort(out)
	out = slices.Compact(out)
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: a user or token needs at least one role of %v", inventory.ErrInvalid, AllRoles)
	}
	return out, nil
}
