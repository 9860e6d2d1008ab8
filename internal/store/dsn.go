package store

import (
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/wardnet/wardnet/inventory"
)

const dsnHint = `give "sqlite:///absolute/path/wardnet.db" or "postgres://user@host/database"`

// target is a parsed DSN.
type target struct {
	dialect Dialect
	path    string // of the SQLite file
	url     string // of PostgreSQL; holds the password, never printed
}

// parseDSN checks dsn. Its errors never quote a part that may hold a password.
func parseDSN(dsn string) (target, error) {
	bad := func(why string) (target, error) {
		return target{}, fmt.Errorf("%w: database DSN: %s; %s", inventory.ErrInvalid, why, dsnHint)
	}
	if dsn == "" {
		return bad("it is empty")
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return bad("it is not a URL") // url.Error would quote it, password included
	}
	switch u.Scheme {
	case "sqlite":
		switch {
		case u.Host != "" || u.User != nil:
			return bad(fmt.Sprintf("a SQLite path takes three slashes, and %q stands where none belongs", u.Host))
		case u.RawQuery != "" || u.Fragment != "":
			return bad("a SQLite DSN takes no parameters")
		case !filepath.IsAbs(u.Path) || filepath.Clean(u.Path) == "/":
			return bad("the SQLite path must be absolute and name a file")
		}
		return target{dialect: SQLite, path: filepath.Clean(u.Path)}, nil
	case "postgres", "postgresql":
		return target{dialect: Postgres, url: dsn}, nil
	case "":
		return bad("it has no scheme")
	}
	return bad(fmt.Sprintf("%q is no engine we know", u.Scheme))
}
