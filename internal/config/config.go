// Package config reads rekey.yaml: strictly, all of it or nothing. It reports file, line and column of everything
// that is wrong, and what was expected.
package config

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// DefaultFile is the file that is read where none is named.
const DefaultFile = "rekey.yaml"

// Config is a rekey.yaml that makes sense.
type Config struct {
	// Install is the id of this rekey installation.
	Install   string
	Providers map[string]Provider
	Stores    map[string]Store
	Keys      []rotation.Key
	// Paused names the keys whose schedules the file pauses.
	Paused map[string]bool
	// Triggers is nil where the worker does not listen for any.
	Triggers *Triggers
	// Channels are where people are notified, in the order of the file.
	Channels []Channel
	// Operators are the people whose signatures count under four eyes.
	Operators []rotation.Operator
	// UI is the address of the Temporal UI, for links; empty where the file does not say.
	UI string
}

// Provider is how the worker reaches a provider. Durations that are 0 are the adapter's own default.
type Provider struct {
	Type         string
	Mode         string
	Endpoint     string
	TokenURL     string
	Organization string

	RequestTimeout time.Duration
	ListLag        *time.Duration
	Propagation    *time.Duration
	RevocationLag  *time.Duration
	// Limit is how fast and how many at once the steps of the provider's rotations may go.
	Limit    Limit
	accounts []string
}

// Store is how the worker reaches a store.
type Store struct {
	Type     string
	Project  string
	Readers  string
	Dir      string
	Identity string
	Endpoint string
	// Region and Role are AWS's.
	Region, Role string

	RequestTimeout time.Duration
	ReadLag        *time.Duration
	paths          []string
}

// The types of providers and stores.
const (
	OpenAI               = "openai"
	GoogleServiceAccount = "google-service-account"
	GoogleSecretManager  = "google-secret-manager"
	AWSSecretsManager    = "aws-secrets-manager"
	Local                = "local"
)

// Problem is one thing that is wrong with a file.
type Problem struct {
	File         string
	Line, Column int
	Message      string
}

func (p Problem) Error() string {
	if p.Line == 0 {
		return fmt.Sprintf("%s: %s", p.File, p.Message)
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
}

// Problems is everything that is wrong with a file; nothing of it was used.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, one := range p {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Load reads a file. Whatever is wrong with it comes back as Problems.
func Load(name string) (*Config, error) {
	text, err := readFile(name)
	if err != nil {
		return nil, err
	}
	return Parse(name, text)
}

// Key finds a key by name.
func (c *Config) Key(name string) (rotation.Key, bool) {
	i := slices.IndexFunc(c.Keys, func(k rotation.Key) bool { return k.Name == name })
	if i < 0 {
		return rotation.Key{}, false
	}
	return c.Keys[i], true
}

// Allow refuses a key spec that this file does not have (AccessDenied): whoever can start a workflow must not be able
// to point the worker's credentials at something else. A key that the file names must be the same, but for its policy;
// another one needs an account and paths that the lists of allowed accounts and paths have.
func (c *Config) Allow(k rotation.Key) error {
	deny := func(what, name, where string) error {
		return fault.New(fault.AccessDenied, "not_allowed", fmt.Sprintf("use %s %q of %s for key %s", what, name, where, k.Name)).
			WithAdvice("This worker's rekey.yaml does not name it so: neither the key nor a list of allowed %ss has it.", what)
	}
	if !rotation.ValidKeyName(k.Name) {
		return deny("key name", k.Name, k.Provider)
	}
	// A key of the file is that key and no other: with the account of one and the path of another, applications of
	// the other would get a key that is not theirs.
	if own, ok := c.Key(k.Name); ok {
		switch {
		case own.Provider != k.Provider || own.Account != k.Account:
			return deny("account", k.Account, k.Provider)
		case !slices.Equal(own.Stores, k.Stores):
			return deny("path", fmt.Sprint(k.Stores), "its stores")
		}
		return nil
	}
	if !matches(c.Providers[k.Provider].accounts, k.Account) {
		return deny("account", k.Account, k.Provider)
	}
	for _, l := range k.Stores {
		if !matches(c.Stores[l.Store].paths, l.Path) || slices.ContainsFunc(c.Keys, func(o rotation.Key) bool { return slices.Contains(o.Stores, l) }) {
			return deny("path", l.Path, l.Store)
		}
	}
	return nil
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, name)
		return err == nil && ok
	})
}
