package auditor

import (
	"cmp"
	"slices"

	"github.com/rekeyhq/rekey/provider"
	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/store"
)

// end looks at what is left when a rotation says that it has ended.
func (j *judge) end() {
	at := Op{Kind: "look", By: theEnd, Outcome: OK}
	now := j.published()
	if len(now) > 1 {
		j.say(at, "I8: the stores disagree in the end: %v", now)
	}
	for _, l := range j.Key.Stores {
		j.endOf(at, l, j.records[l])
	}
	for f, accepted := range j.accepted {
		switch isCurrent := slices.Contains(now, f); {
		case isCurrent && !accepted:
			j.say(at, "I1: %s is refused, which applications read", f)
		case !isCurrent && accepted:
			j.say(at, "I3: %s is still accepted, which no application reads", f)
		}
	}
	if j.listed {
		j.endOfList(at, now)
	}
	if len(now) == 1 {
		j.endOfWay(at, now[0])
	}
}

// endOf: a record that nothing is under way in says what applications read, and promises nothing more.
func (j *judge) endOf(at Op, l rotation.Location, r *store.Record) {
	if r == nil {
		return
	}
	at.Where = l
	if c := j.current[l]; c != "" && (r.Current == nil || r.Current.Fingerprint != c) {
		j.say(at, "I8: the record does not name %s as current, which applications read", c)
	}
	if r.Pending != nil {
		j.say(at, "I3: version %s is left pending", r.Pending.Number)
	}
	if r.Claim != nil {
		j.say(at, "I3: the claim of rotation %s is left", r.Claim.Rotation)
	}
	for _, d := range r.Duties {
		j.say(at, "I3: it is forgotten that %s is to be revoked", cmp.Or(d.KeyID, d.Fingerprint))
	}
}

// endOfList: the provider has the one key that applications read.
func (j *judge) endOfList(at Op, now []string) {
	for _, k := range j.endKeys {
		named := false
		for _, r := range j.records {
			named = named || hasDuty(r, j.valueOf[k.ID], k.ID) || slices.ContainsFunc(r.Stages(), func(v store.Version) bool {
				return v.KeyID == k.ID || v.Fingerprint != "" && v.Fingerprint == j.valueOf[k.ID]
			})
		}
		isCurrent := slices.ContainsFunc(now, func(f string) bool { return j.idOf[f] == k.ID })
		switch {
		case !named:
			j.say(at, "I3: the key %s is left, and no record knows it (stamp %q)", k.ID, k.Stamp)
		case !isCurrent:
			j.say(at, "I3: the key %s is left, and no application reads it", k.ID)
		case k.Disabled:
			j.say(at, "I1: the key %s is disabled, which applications read", k.ID)
		}
	}
	for _, f := range now {
		if id := j.idOf[f]; id != "" && !slices.ContainsFunc(j.endKeys, func(k provider.Key) bool { return k.ID == id }) {
			j.say(at, "I1: the key %s is not listed, which applications read", id)
		}
	}
}

// endOfWay: forward leads to a new key, back to the old one.
func (j *judge) endOfWay(at Op, now string) {
	switch j.Result.Phase {
	case rotation.Completed:
		if !j.Result.NotDue && j.first != "" && now == j.first {
			j.say(at, "I7: it says that it is completed, and applications read %s as before", now)
		}
		if n := j.Result.New; n != "" && n != now {
			j.say(at, "I7: it says that applications read %s, and they read %s", n, now)
		}
	case rotation.RolledBack:
		if j.first != "" && now != j.first {
			j.say(at, "I7: it says that it is rolled back, and applications read %s, not %s as before", now, j.first)
		}
	}
}
