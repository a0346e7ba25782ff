package simcloud

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// EventKind says what an Event reports.
type EventKind string

// The kinds of events. Called is a request; the others are changes of state.
const (
	Called      EventKind = "called"
	KeyCreated  EventKind = "key created"
	KeyDisabled EventKind = "key disabled"
	KeyEnabled  EventKind = "key enabled"
	KeyDeleted  EventKind = "key deleted"
	// Published: from now on (less the alias lag) applications read the value of KeyID under Target.
	Published        EventKind = "published"
	VersionAdded     EventKind = "version added"
	VersionDestroyed EventKind = "version destroyed"
)

// Event is one line of the journal. It holds no key material.
type Event struct {
	Seq  int
	At   time.Time
	Kind EventKind
	// Service is "google-iam", "openai", "secret-manager", ….
	Service string
	// Method is set for Called.
	Method string
	// Target is the account of a key, the path of a version.
	Target string
	// KeyID is the provider's key that the event is about.
	KeyID string
	// Stamp is the mark that the key carries.
	Stamp string
	// Version is the number of a stored version.
	Version string
}

// Record appends e to the journal, numbered and dated.
func (c *Cloud) Record(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e.Seq, e.At = len(c.journal)+1, c.now()
	c.journal = append(c.journal, e)
}

// Journal returns a copy of all events so far, oldest first.
func (c *Cloud) Journal() []Event {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.journal)
}

// Calls counts the requests to a method of a service.
func (c *Cloud) Calls(service, method string) int {
	n := 0
	for _, e := range c.Journal() {
		if e.Kind == Called && e.Service == service && e.Method == method {
			n++
		}
	}
	return n
}

// Rules say what the invariants mean for the keys of a test.
type Rules struct {
	// Groups are the store paths of one key each: I8 speaks of them together.
	Groups [][]string
	// Foreign are the ids of keys that rekey must never touch (I4).
	Foreign []string
	// MayDie are ids of keys that somebody else kills, as in a leak: I1 does not speak of them.
	MayDie []string
}

// Check reads the journal from the beginning and returns every moment at which an invariant did not hold.
func (c *Cloud) Check(r Rules) []string {
	var broken []string
	live := map[string]bool{}
	published := map[string]string{}
	say := func(e Event, format string, args ...any) {
		broken = append(broken, fmt.Sprintf("event %d (%s %s): ", e.Seq, e.Kind, e.KeyID)+fmt.Sprintf(format, args...))
	}
	disagree := func() []string {
		for _, g := range r.Groups {
			ids := map[string]bool{}
			for _, path := range g {
				if id, ok := published[path]; ok {
					ids[id] = true
				}
			}
			if len(ids) > 1 {
				return slices.Sorted(maps.Keys(ids))
			}
		}
		return nil
	}
	for _, e := range c.Journal() {
		switch e.Kind {
		case KeyCreated, KeyEnabled:
			live[e.KeyID] = true
		case KeyDisabled, KeyDeleted:
			if slices.Contains(r.Foreign, e.KeyID) {
				say(e, "I4: a foreign key was touched")
			}
			delete(live, e.KeyID)
			if slices.Contains(r.MayDie, e.KeyID) {
				continue
			}
			for path, id := range published {
				if id == e.KeyID {
					say(e, "I1: applications read this key at %s", path)
				}
			}
			if ids := disagree(); slices.Contains(ids, e.KeyID) {
				say(e, "I8: revoked while stores disagree: %s", strings.Join(ids, ", "))
			}
		case Published:
			if e.KeyID != "" && !live[e.KeyID] && !slices.Contains(r.MayDie, e.KeyID) {
				say(e, "I1: published at %s although the provider refuses it", e.Target)
			}
			published[e.Target] = e.KeyID
		}
	}
	return broken
}

// LiveKeys returns the ids of the keys that exist, with their stamps, disabled ones included.
func (c *Cloud) LiveKeys() map[string]string {
	keys := map[string]string{}
	for _, e := range c.Journal() {
		switch e.Kind {
		case KeyCreated:
			keys[e.KeyID] = e.Stamp
		case KeyDeleted:
			delete(keys, e.KeyID)
		}
	}
	return keys
}

// PublishedKeys returns the key id that applications read under each path.
func (c *Cloud) PublishedKeys() map[string]string {
	published := map[string]string{}
	for _, e := range c.Journal() {
		if e.Kind == Published {
			published[e.Target] = e.KeyID
		}
	}
	return published
}

// Orphans returns the ids of the stamped keys that exist and that no store publishes.
func (c *Cloud) Orphans() []string {
	published := map[string]bool{}
	for _, id := range c.PublishedKeys() {
		published[id] = true
	}
	var ids []string
	for id, stamp := range c.LiveKeys() {
		if stamp != "" && !published[id] {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
