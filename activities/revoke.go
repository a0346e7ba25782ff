package activities

import (
	"context"
	"fmt"
	"slices"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/store"
)

// RevokeMode says how far a revoke goes.
type RevokeMode string

// The modes.
const (
	// DisableKey makes the provider refuse the key, and can be undone.
	DisableKey RevokeMode = "disable"
	// EnableKey undoes it.
	EnableKey RevokeMode = "enable"
	// DeleteKey is for good.
	DeleteKey RevokeMode = "delete"
)

// RevokeInput asks to revoke keys.
type RevokeInput struct {
	Target
	Keys []Ref `json:"keys"`
	// Keep is the value that applications must read in every store before anything is taken away.
	Keep Ref        `json:"keep"`
	Mode RevokeMode `json:"mode"`
	// Contain is for an emergency that puts containment before availability: the key goes although applications read it.
	Contain bool `json:"contain,omitempty"`
	// Approval is what two operators signed, for a key under four eyes.
	Approval *rotation.Approval `json:"approval,omitempty"`
	// Emergency says who raised the emergency that this serves: nobody has to sign then.
	Emergency string `json:"emergency,omitempty"`
}

// Revoked is what became of the keys.
type Revoked struct {
	// Gone names the keys that the provider does not have any more: somebody else has taken them away. A key that is gone
	// is as good as revoked, and cannot be enabled again.
	Gone []string `json:"gone,omitempty"`
}

// Revoke disables, enables or deletes keys at the provider. Before each call that takes a key away it reads every
// store again and refuses (Rejected, code "still_staged") a key that is current or pending anywhere, and any key
// while stores disagree (I1, I8). With Contain it only refuses what is not a value of this key (I4). Where the worker's
// rekey.yaml asks for four eyes it refuses (Rejected, code "four_eyes") what no two operators have signed. A key that
// the provider does not have any more is not a failure, whatever was asked for: it is named in Gone.
func (s *Steps) Revoke(ctx context.Context, in RevokeInput) (Revoked, error) {
	j, err := s.changing(ctx, in.Target)
	if err != nil {
		return Revoked{}, err
	}
	records, err := j.loadAll(ctx)
	if err != nil {
		return Revoked{}, err
	}
	keys, err := j.traceAll(ctx, in.Keys, records)
	if err != nil {
		return Revoked{}, err
	}
	if err := j.approved(ctx, in, keys); err != nil {
		return Revoked{}, err
	}
	var out Revoked
	for _, t := range keys {
		r := t.Ref
		if r.KeyID == "" {
			return out, fault.New(fault.Rejected, "no_id", "revoke the value "+r.Fingerprint+" of "+j.Key.Name).
				WithAdvice("Its id at %s is not known. Revoke it by hand: %s", j.Key.Provider, fault.Link(j.provider.Console(j.Key.Account)))
		}
		var wasGone bool
		switch in.Mode {
		case EnableKey:
			wasGone, err = j.change(ctx, r.KeyID, j.provider.Enable)
		case DisableKey, DeleteKey:
			if records, err = j.checkRevocable(ctx, r, in); err == nil {
				wasGone, err = j.takeAway(ctx, r, in.Mode, in.Contain, records)
			}
		default:
			err = fault.New(fault.Internal, "mode", "revoke keys of "+j.Key.Name)
		}
		if err != nil {
			return out, err
		}
		if wasGone {
			out.Gone = append(out.Gone, r.Name())
			j.audit(ctx, "key was gone already", "mode", string(in.Mode), "key_id", r.KeyID, "fingerprint", r.Fingerprint)
			continue
		}
		what := "key revoked"
		if in.Mode == EnableKey {
			what = "key enabled"
		}
		j.audit(ctx, what, "mode", string(in.Mode), "key_id", r.KeyID, "fingerprint", r.Fingerprint)
	}
	return out, nil
}

// StillStaged is the code of the fault that refuses to take a key away that applications may need.
const StillStaged = "still_staged"

// checkRevocable reads every store, by record and as applications do, and refuses a key that anybody reads or is about to
// read, every key while they do not get keep from a store or the provider refuses that, and every key that no rotation wrote
// down as its duty before it promoted (I4): the ids in a workflow's input alone are no order to delete. It returns the
// records as it read them.
func (j *job) checkRevocable(ctx context.Context, r Ref, in RevokeInput) ([]store.Snapshot, error) {
	keep := in.Keep
	records, err := j.loadAll(ctx)
	if err != nil {
		return nil, err
	}
	if in.Contain {
		return records, nil // applications read it, and it goes all the same
	}
	published, err := j.ensureUnread(ctx, r, records)
	if err != nil {
		return nil, err
	}
	if !isDuty(r, records) {
		return nil, j.refuse(r, "No store names it as a key that a rotation promised to revoke.")
	}
	for i, s := range records {
		if staged(r, s.Pending) {
			return nil, j.refuse(r, "%s names it as pending.", j.Key.Stores[i])
		}
		if !staged(keep, s.Current) || !keep.is(published[i]) {
			return nil, j.refuse(r, "Applications do not read %s in %s, which was proven and is to stay.", keep.Name(), j.Key.Stores[i])
		}
	}
	if in.Emergency != "" {
		return records, nil // what leaked does not stay for want of another
	}
	// Its versions are those of the records: the input could name none.
	refused, err := j.refused(ctx, j.refOf(*records[0].Current, 0))
	if err == nil && refused {
		err = j.refuse(r, "The provider refuses %s, which applications read: without this one they would have none.", keep.Name())
	}
	return records, err
}

// ensureUnread refuses a key that is current in a record, or that applications read. It returns what applications read in
// each store.
func (j *job) ensureUnread(ctx context.Context, r Ref, records []store.Snapshot) ([]Ref, error) {
	published := make([]Ref, len(records))
	for i, s := range records {
		if staged(r, s.Current) {
			return nil, j.refuse(r, "%s names it as current.", j.Key.Stores[i])
		}
		v, err := j.stores[i].Published(ctx, j.path(i))
		if fault.Is(err, fault.NotFound) {
			continue
		} else if err != nil {
			return nil, err
		}
		published[i] = Ref{Fingerprint: v.Fingerprint()}
		if p, err := j.provider.Parse(v); err == nil {
			published[i].KeyID = p.KeyID
		}
		if r.is(published[i]) {
			return nil, j.refuse(r, "Applications still read it in %s.", j.Key.Stores[i])
		}
	}
	return published, nil
}

func (j *job) refuse(r Ref, format string, args ...any) error {
	return fault.New(fault.Rejected, StillStaged, "revoke "+r.Name()+" of "+j.Key.Name).WithAdvice("Nothing was revoked. "+format, args...)
}

// ConfirmInput asks for proof that keys are refused.
type ConfirmInput struct {
	Target
	Keys []Ref `json:"keys"`
	// New must still be accepted; nil if there is none.
	New *Ref `json:"new,omitempty"`
}

// Confirmed is what the provider says about revoked keys.
type Confirmed struct {
	// Accepted are the keys that still pass.
	Accepted []string `json:"accepted,omitempty"`
	// Unproven are keys whose value nobody has any more, so that their refusal cannot be tried.
	Unproven   []string `json:"unproven,omitempty"`
	NewRefused bool     `json:"newRefused,omitempty"`
}

// Confirm tries every revoked value at the provider: it must be refused. It is the one place where rekey uses an
// old value, and only after its revoke.
func (s *Steps) Confirm(ctx context.Context, in ConfirmInput) (Confirmed, error) {
	j, err := s.job(in.Target)
	if err != nil {
		return Confirmed{}, err
	}
	var out Confirmed
	for _, r := range in.Keys {
		v, found, err := j.value(ctx, r)
		if err != nil {
			return out, err
		}
		if !found {
			// No value to try: the provider's list is the proof, if there is one.
			live, known, err := j.listed(ctx, r)
			if err != nil {
				return out, err
			}
			switch {
			case !known:
				out.Unproven = append(out.Unproven, r.Name())
			case live:
				out.Accepted = append(out.Accepted, r.Name())
			}
			continue
		}
		proof, err := j.provider.Probe(ctx, j.Key.Account, v)
		if err != nil {
			return out, err
		}
		if proof.Accepted {
			out.Accepted = append(out.Accepted, r.Name())
		}
	}
	if in.New != nil {
		refused, err := j.refused(ctx, *in.New)
		if err != nil {
			return out, err
		}
		out.NewRefused = refused
	}
	return out, nil
}

func (j *job) listed(ctx context.Context, r Ref) (live, known bool, err error) {
	if !j.caps.List || r.KeyID == "" {
		return false, false, nil
	}
	keys, err := j.provider.List(ctx, j.Key.Account)
	if err != nil {
		return false, false, err
	}
	return slices.ContainsFunc(keys, func(k providerKey) bool { return k.ID == r.KeyID && !k.Disabled }), true, nil
}

// RetireInput asks to clear what a rotation leaves.
type RetireInput struct {
	Target
	// Gone are the keys that are revoked; their versions are destroyed and their duties done.
	Gone []Ref `json:"gone,omitempty"`
	// Keep is the value that stays.
	Keep *Ref `json:"keep,omitempty"`
	// Predecessors are rotations that this one follows in the same workflow: it clears what their attempts left, too.
	Predecessors []string `json:"predecessors,omitempty"`
}

// Retired is what was cleared.
type Retired struct {
	// Swept are the ids of orphans that were deleted: keys with our stamp that no store had.
	Swept []string `json:"swept,omitempty"`
	// SweepIn, if set, is how long to wait before the last sweep can be trusted.
	SweepIn rotation.Duration `json:"sweepIn,omitempty"`
	// FollowUps are sentences about what a person has to see to.
	FollowUps []string `json:"followUps,omitempty"`
}

// StillLive is the code of the fault that refuses to forget a key that the provider accepts.
const StillLive = "still_live"

// Retire takes the revoked keys out of every record, destroys their versions, releases the claim, and sweeps
// orphans. Run within the horizon of the last mint it says when to sweep again, and keeps the claim until then.
func (s *Steps) Retire(ctx context.Context, in RetireInput) (Retired, error) {
	j, err := s.changing(ctx, in.Target)
	if err != nil {
		return Retired{}, err
	}
	records, err := j.loadAll(ctx)
	if err != nil {
		return Retired{}, err
	}
	var gone []Ref
	for _, r := range in.Gone {
		t, found, err := j.trace(ctx, r, records)
		if err != nil {
			return Retired{}, err
		}
		if !found {
			continue // an earlier try of this activity cleared it
		}
		live, err := j.stillLive(ctx, t.Ref)
		if err != nil {
			return Retired{}, err
		}
		if live {
			return Retired{}, fault.New(fault.Rejected, StillLive, "clear "+t.Name()+" of "+j.Key.Name).
				WithAdvice("Nothing was cleared. %s still accepts it: a promise to revoke it is forgotten only when that is done.", j.Key.Provider)
		}
		gone = append(gone, t.Ref)
	}
	return j.retireAll(ctx, gone, in.Keep, in.Predecessors)
}

// retireAll takes gone keys out of every record, and sweeps.
func (j *job) retireAll(ctx context.Context, gone []Ref, keep *Ref, predecessors []string) (Retired, error) {
	var keys []providerKey
	if j.caps.List && j.caps.Delete {
		// Before the records are read: a key in this list whose attempt is over is in them, if it was staged.
		var err error
		if keys, err = j.provider.List(ctx, j.Key.Account); err != nil {
			return Retired{}, err
		}
	}
	records := make([]store.Snapshot, len(j.stores))
	for i := range j.stores {
		var err error
		if records[i], err = j.retire(ctx, i, gone); err != nil {
			return Retired{}, err
		}
	}
	return j.sweep(ctx, keys, records, keep, predecessors)
}

// retire destroys the versions of gone keys in the i-th store and takes them out of its record. In this order: cut off in
// between, the record still says what is to be destroyed.
func (j *job) retire(ctx context.Context, i int, gone []Ref) (store.Snapshot, error) {
	isGone := func(id, fingerprint string) bool {
		return slices.ContainsFunc(gone, Ref{KeyID: id, Fingerprint: fingerprint}.is)
	}
	snap, err := j.load(ctx, i)
	if err != nil {
		return snap, err
	}
	var numbers []string
	for _, r := range gone {
		if r.Numbers[i] != "" {
			numbers = append(numbers, r.Numbers[i])
		}
	}
	for _, v := range []*store.Version{snap.Previous, snap.Pending} {
		if v != nil && isGone(v.KeyID, v.Fingerprint) {
			numbers = append(numbers, v.Number)
		}
	}
	slices.Sort(numbers)
	for _, n := range slices.Compact(numbers) {
		err := j.stores[i].Destroy(ctx, j.path(i), n)
		if fault.Is(err, fault.Rejected) && snap.Current != nil && snap.Current.Number != n {
			// A promote that was cut off has left a record that still names it as current; what was loaded knows better.
			if snap, err = j.stores[i].Save(ctx, j.path(i), snap); err == nil {
				err = j.stores[i].Destroy(ctx, j.path(i), n)
			}
		}
		if err != nil {
			return snap, err
		}
		j.audit(ctx, "version destroyed", "store", j.Key.Stores[i].String(), "version", n)
	}
	return j.editFrom(ctx, i, snap, func(s *store.Snapshot) (bool, error) {
		changed := false
		for _, stage := range []**store.Version{&s.Previous, &s.Pending} {
			if v := *stage; v != nil && isGone(v.KeyID, v.Fingerprint) {
				*stage, changed = nil, true
			}
		}
		duties := slices.DeleteFunc(slices.Clone(s.Duties), func(d store.Duty) bool { return isGone(d.KeyID, d.Fingerprint) })
		changed = changed || len(duties) != len(s.Duties)
		s.Duties = duties
		return forgetRevokes(s, isGone) || changed, nil
	})
}

// sweep deletes the orphans of this key and releases the claim. Before the horizon has passed since the last
// attempt it only says how long to wait.
func (j *job) sweep(ctx context.Context, keys []providerKey, records []store.Snapshot, keep *Ref, predecessors []string) (out Retired, err error) {
	claim := records[0].Claim
	isMine := func(rotation string) bool {
		return rotation == j.Rotation || slices.Contains(predecessors, rotation)
	}
	mine := claim != nil && claim.Install == j.Install && isMine(claim.Rotation)
	if j.caps.List && j.caps.Delete && mine && !claim.Settled {
		if records[0], err = j.redate(ctx, 0, records[0]); err != nil {
			return Retired{}, err
		}
		if claim = records[0].Claim; claim == nil {
			return Retired{}, store.ErrConflict(j.path(0)) // asked again, it looks again
		}
		if rest := claim.At.Add(j.horizon()).Sub(j.now()); rest > 0 {
			return Retired{SweepIn: waitFor(rest)}, nil
		}
	}
	if mine {
		for _, id := range j.unproven(claim, keys, records) {
			out.FollowUps = append(out.FollowUps, fmt.Sprintf("A mint was not answered, and %s appeared at %s meanwhile. Whether rekey made it cannot be proven: look who did, and delete it if nobody uses it.", id, j.Key.Account))
		}
	}
	for _, k := range j.orphans(keys, records, isMine) {
		if keep != nil && keep.KeyID == k.ID {
			continue
		}
		if _, err := j.ensureUnread(ctx, Ref{KeyID: k.ID}, records); err != nil {
			return out, err
		}
		if _, err := j.change(ctx, k.ID, j.provider.Delete); err != nil {
			return out, err
		}
		j.audit(ctx, "orphan deleted", "key_id", k.ID, "stamp", k.Stamp)
		out.Swept = append(out.Swept, k.ID)
	}
	if mine {
		_, err = j.editFrom(ctx, 0, records[0], func(s *store.Snapshot) (bool, error) {
			if s.Claim == nil || !isMine(s.Claim.Rotation) {
				return false, nil
			}
			s.Claim = nil
			return true, nil
		})
	}
	return out, err
}

// orphans are keys of this rotation, and of those that it follows, that no record names. What other rotations left is for the next Create, which
// holds the claim and can ask.
func (j *job) orphans(keys []providerKey, records []store.Snapshot, isMine func(string) bool) []providerKey {
	var orphans []providerKey
	for _, k := range keys {
		s, _ := rotation.ParseStamp(k.Stamp)
		if j.ours(k.Stamp) && isMine(s.Rotation) && !named(Ref{KeyID: k.ID}, records) {
			orphans = append(orphans, k)
		}
	}
	return orphans
}

// DiscardInput asks to undo what was done before promote.
type DiscardInput struct {
	Target
	// Predecessors are rotations that this one follows in the same workflow: what they left pending goes, too.
	Predecessors []string `json:"predecessors,omitempty"`
}

// Discarded is what was undone.
type Discarded struct {
	Retired
	// Published is the new value if it is current in a store: it cannot be discarded, and the way back is a rotation
	// in reverse. Nothing was changed.
	Published *Ref `json:"published,omitempty"`
}

// Discard deletes what this rotation has minted and staged, by the records and by its exact stamps, destroys its pending
// versions and releases the claim. A key that a person supplied is only named. It does nothing for a rotation that has
// done nothing.
func (s *Steps) Discard(ctx context.Context, in DiscardInput) (Discarded, error) {
	j, err := s.changing(ctx, in.Target)
	if err != nil {
		return Discarded{}, err
	}
	records, err := j.loadAll(ctx)
	if err != nil {
		return Discarded{}, err
	}
	var news []Ref
	for i, s := range records {
		if s.Current != nil && s.Current.Rotation == j.Rotation && j.Rotation != "" {
			out := j.refOf(*s.Current, i)
			j.recognisable(ctx, &out)
			return Discarded{Published: &out}, nil
		}
		if p := s.Pending; p != nil && (p.Rotation == j.Rotation || slices.Contains(in.Predecessors, p.Rotation) && !isCurrent(j.refOf(*p, i), records)) {
			news = merge(news, j.refOf(*p, i))
		}
	}
	// The key goes first: as long as a record names it, a crash cannot make it an orphan.
	var out Discarded
	for _, r := range news {
		switch {
		case r.Stamp == "":
			out.FollowUps = append(out.FollowUps, fmt.Sprintf("The supplied key %s is not used, and rekey deletes no key that it did not make. Delete it at %s, if it is live: %s", r.Name(), j.Key.Provider, j.provider.Console(j.Key.Account)))
		case r.KeyID != "":
			if _, err := j.ensureUnread(ctx, r, records); err != nil {
				return out, err
			}
			if _, err := j.takeAway(ctx, r, DeleteKey, false, records); err != nil {
				return out, err
			}
			j.audit(ctx, "new key discarded", "key_id", r.KeyID, "stamp", r.Stamp)
		}
	}
	left := out.FollowUps
	out.Retired, err = j.retireAll(ctx, news, nil, in.Predecessors)
	out.FollowUps = append(left, out.FollowUps...)
	return out, err
}
