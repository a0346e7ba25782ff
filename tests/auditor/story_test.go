package auditor

import (
	"slices"
	"strconv"
	"time"

	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/store"
)

const (
	oldValue, newValue = "aaaaaaaaaaaa", "bbbbbbbbbbbb"
	oldKey, newKey     = "key-old", "key-new"
	install            = "acme01"
	thisRotation       = "abcdefgh"
)

var (
	first  = rotation.Location{Store: "one", Path: "p"}
	second = rotation.Location{Store: "two", Path: "p"}
)

func stampOf(attempt int) string {
	return rotation.Stamp{Install: install, Key: "prod", Rotation: thisRotation, Attempt: attempt}.String()
}

// story makes up a history, one operation after the other.
type story struct {
	Case
	now  time.Time
	tick int64
	// state is what is in each store, number how many versions.
	state  map[rotation.Location]store.Record
	number map[rotation.Location]int
	rev    map[rotation.Location]int
}

func newStory() *story {
	s := &story{
		now:   time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC),
		state: map[rotation.Location]store.Record{}, number: map[rotation.Location]int{}, rev: map[rotation.Location]int{},
	}
	s.Key = rotation.Key{Name: "prod", Stores: []rotation.Location{first, second}, Policy: rotation.Preset(rotation.Production)}
	s.Install, s.Reason = install, rotation.Manual
	s.Provider = provider.Capabilities{Mint: true, Stamps: true, List: true, Disable: true, Delete: true, RequestTimeout: time.Second}
	for _, l := range s.Key.Stores {
		s.number[l] = 1
		s.state[l] = store.Record{Current: &store.Version{Number: "1", KeyID: oldKey, Fingerprint: oldValue}}
	}
	return s
}

func (s *story) wait(d time.Duration) { s.now = s.now.Add(d) }

// do adds an operation that ends before the next one begins. Without a caller it is rekey's, without an outcome it is OK.
func (s *story) do(op Op) *Op {
	if op.By == "" {
		op.By = rekey
	}
	if op.Outcome == "" {
		op.Outcome = OK
	}
	op.Call, op.Return, op.Began, op.Ended = s.tick+1, s.tick+2, s.now, s.now
	if op.Outcome == Unknown {
		op.Return = open
	}
	s.tick += 2
	s.History = append(s.History, op)
	return &s.History[len(s.History)-1]
}

func (s *story) revision(l rotation.Location) string { return strconv.Itoa(s.rev[l]) }

// copied is a record that later changes leave alone.
func copied(r store.Record) *store.Record {
	r.Duties, r.Revokes = slices.Clone(r.Duties), slices.Clone(r.Revokes)
	return &r
}

func (s *story) load(l rotation.Location, by string) {
	s.do(Op{Kind: Load, By: by, Where: l, After: copied(s.state[l]), AfterRevision: s.revision(l)})
}

func (s *story) save(l rotation.Location, change func(*store.Record)) {
	r, from := s.state[l], s.revision(l)
	change(&r)
	s.state[l] = r
	s.rev[l]++
	s.do(Op{Kind: Save, Where: l, Revision: from, Before: copied(r), After: copied(r), AfterRevision: s.revision(l)})
}

func (s *story) add(l rotation.Location, fingerprint string) string {
	s.number[l]++
	n := strconv.Itoa(s.number[l])
	s.do(Op{Kind: Add, Where: l, Fingerprint: fingerprint, Answered: n})
	return n
}

func (s *story) promote(l rotation.Location, v store.Version) {
	before, from := s.state[l], s.revision(l)
	r := before
	r.Previous, r.Current, r.Pending = r.Current, &v, nil
	s.state[l] = r
	s.rev[l]++
	s.do(Op{
		Kind: Promote, Where: l, Revision: from, Before: copied(before), Number: v.Number, Answered: v.Number, Fingerprint: v.Fingerprint, KeyID: v.KeyID,
		After: copied(r), AfterRevision: s.revision(l),
	})
}

// applications read and use the key, one of them a copy that it has had for a while.
func (s *story) applications(copyOf string, accepted bool) {
	for _, l := range s.Key.Stores {
		f := s.state[l].Current.Fingerprint
		s.do(Op{Kind: Published, By: "an application", Where: l, Fingerprint: f})
		s.do(Op{Kind: Use, By: "an application", Fingerprint: f, Accepted: true})
	}
	s.do(Op{Kind: Use, By: "an application", Fingerprint: copyOf, Accepted: accepted, Cached: true, Held: time.Hour})
}

// takeAway writes a request down and makes it.
func (s *story) takeAway(k Kind, id, fingerprint string) {
	s.save(first, func(r *store.Record) {
		r.Revokes = []store.Revoke{{KeyID: id, Fingerprint: fingerprint, At: s.now}}
	})
	s.do(Op{Kind: k, KeyID: id})
	s.save(first, func(r *store.Record) { r.Revokes = nil })
}

func (s *story) verify(f string, where ...rotation.Location) {
	for _, l := range where {
		s.do(Op{Kind: Read, Where: l, Number: strconv.Itoa(s.number[l]), Fingerprint: f})
	}
	for range answers {
		s.do(Op{Kind: Probe, Fingerprint: f, Accepted: true})
	}
}

// stage takes the claim, mints and stages.
func (s *story) stage() {
	for _, l := range s.Key.Stores {
		s.load(l, rekey)
	}
	s.do(Op{Kind: Identify, Fingerprint: oldValue, KeyID: oldKey})
	s.do(Op{Kind: List, Keys: []provider.Key{{ID: oldKey}}})
	s.applications(oldValue, true)
	s.save(first, func(r *store.Record) {
		r.Install, r.Claim = install, &store.Claim{Install: install, Rotation: thisRotation, Attempt: 1, At: s.now}
	})
	s.do(Op{Kind: Mint, Stamp: stampOf(1), KeyID: newKey, Fingerprint: newValue})
	for _, l := range s.Key.Stores {
		n := s.add(l, newValue)
		s.save(l, func(r *store.Record) {
			r.Pending = &store.Version{Number: n, KeyID: newKey, Stamp: stampOf(1), Rotation: thisRotation, Fingerprint: newValue}
		})
	}
}

func (s *story) duties() {
	for _, l := range s.Key.Stores {
		s.save(l, func(r *store.Record) {
			r.Duties = []store.Duty{{KeyID: oldKey, Fingerprint: oldValue, Rotation: thisRotation}}
		})
	}
}

func (s *story) publish(where ...rotation.Location) {
	for _, l := range where {
		s.promote(l, *s.state[l].Pending)
	}
}

// retire clears the records.
func (s *story) retire() {
	for _, l := range s.Key.Stores {
		s.do(Op{Kind: Destroy, Where: l, Number: "1"})
		s.save(l, func(r *store.Record) { r.Previous, r.Duties, r.Claim = nil, nil, nil })
	}
}

// look is what the auditor sees at the end; left are the keys that the provider lists.
func (s *story) look(left ...provider.Key) {
	for _, l := range s.Key.Stores {
		s.load(l, theEnd)
		s.do(Op{Kind: Published, By: theEnd, Where: l, Fingerprint: s.state[l].Current.Fingerprint})
	}
	s.do(Op{Kind: List, By: theEnd, Keys: left})
	for f, id := range map[string]string{oldValue: oldKey, newValue: newKey} {
		accepted := slices.ContainsFunc(left, func(k provider.Key) bool { return k.ID == id && !k.Disabled })
		s.do(Op{Kind: Use, By: theEnd, Fingerprint: f, Accepted: accepted})
	}
}

var mintedKey = provider.Key{ID: newKey, Stamp: stampOf(1)}

// good is a rotation as it should be.
func good() *story { return told("") }

// told is a rotation in which one thing is wrong.
func told(wrong string) *story {
	s := newStory()
	s.stage()
	switch wrong {
	case "not verified":
		s.do(Op{Kind: Probe, Fingerprint: newValue, Accepted: true})
	case "verified in one store":
		s.verify(newValue, first)
	case "refused by one answer":
		s.verify(newValue, first, second)
		s.do(Op{Kind: Probe, Fingerprint: newValue})
		s.do(Op{Kind: Probe, Fingerprint: newValue, Accepted: true})
	default:
		s.verify(newValue, first, second)
	}
	if wrong != "no duties" {
		s.duties()
	}
	if wrong == "one store" {
		s.publish(first)
	} else {
		s.publish(first, second)
	}
	grace, soak := time.Duration(s.Key.Policy.Grace), time.Duration(s.Key.Policy.Soak)
	if wrong == "early" {
		grace /= 2
	}
	s.wait(grace)
	s.applications(newValue, true)
	switch wrong {
	case "deleted at once":
	case "the new key":
		s.takeAway(Disable, newKey, newValue)
	case "another value":
		s.takeAway(Disable, oldKey, newValue)
	case "not written down":
		s.do(Op{Kind: Disable, KeyID: oldKey})
	default:
		s.takeAway(Disable, oldKey, oldValue)
	}
	if wrong == "enabled" {
		s.do(Op{Kind: Enable, KeyID: oldKey})
	}
	if wrong != "no soak" {
		s.wait(soak)
	}
	s.takeAway(Delete, oldKey, oldValue)
	if wrong == "somebody's key" {
		s.do(Op{Kind: Delete, KeyID: "key-of-somebody"})
	}
	s.applications(newValue, wrong != "refused copy")
	s.retire()
	s.look(mintedKey)
	s.Result = rotation.Result{Phase: rotation.Completed, New: newValue}
	return s
}
