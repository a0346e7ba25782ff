package activities

import (
	"errors"
	"log/slog"
	"time"

	"github.com/rekeyhq/rekey/notify"
	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/store"
)

// Environment is what a worker's own configuration says, and the clock: everything that activities know besides their
// input. Every field is required. Its methods need no Temporal; the command line calls them directly.
type Environment struct {
	// Install is the id of this rekey installation.
	Install string
	// Providers and Stores are the worker's own, by the names that a key spec uses.
	Providers map[string]provider.Provider
	Stores    map[string]store.Store
	// Allow refuses keys whose account or paths the worker's own configuration does not name: a workflow's
	// input comes from whoever reaches Temporal.
	Allow func(rotation.Key) error
	// Keys returns the keys of the worker's own rekey.yaml.
	Keys func() []rotation.Key
	// Operators are the people of whom two sign what a key under four eyes asks; which keys those are, Keys says. There are
	// none where rekey.yaml names none.
	Operators []rotation.Operator
	// Now is the clock.
	Now func() time.Time
	// Audit gets one record for every change at a provider or in a store.
	Audit *slog.Logger
}

// Steps are the activities of a rotation. Every field is required.
type Steps struct {
	*Environment
	// Rotations reports which rotations are under way, for keys that must not be rotated together.
	Rotations Rotations
}

// Launcher has the activities that start rotations for others than their schedule. Every field is required.
type Launcher struct {
	*Environment
	// Starter starts rotations and follows them.
	Starter Starter
	// Index spares the stores when many leaks are reported at once.
	Index *Index
}

// Notifier has the activity that notifies people. Every field is required but UI.
type Notifier struct {
	*Environment
	// Channels are where people are notified, by the names that a policy uses.
	Channels map[string]notify.Channel
	// UI is the address of the Temporal UI that notifications link to; empty means that they carry no link.
	UI string
}

// check returns an error that names what is not set.
func (e *Environment) check() error {
	if e == nil {
		return required("Environment", false)
	}
	return errors.Join(
		required("Environment.Install", e.Install != ""), required("Environment.Providers", e.Providers != nil), required("Environment.Stores", e.Stores != nil),
		required("Environment.Allow", e.Allow != nil), required("Environment.Keys", e.Keys != nil), required("Environment.Now", e.Now != nil), required("Environment.Audit", e.Audit != nil))
}

func (s *Steps) check() error {
	return errors.Join(s.Environment.check(), required("Steps.Rotations", s.Rotations != nil))
}

func (l *Launcher) check() error {
	return errors.Join(l.Environment.check(), required("Launcher.Starter", l.Starter != nil), required("Launcher.Index", l.Index != nil))
}

func (n *Notifier) check() error {
	return errors.Join(n.Environment.check(), required("Notifier.Channels", n.Channels != nil))
}

func required(field string, isSet bool) error {
	if isSet {
		return nil
	}
	return errors.New("activities: the required field " + field + " is not set")
}
