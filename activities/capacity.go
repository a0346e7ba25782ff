package activities

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// makeRoom turns a rotation that cannot mint, because the account is full, into one that first revokes what takes up the
// room: what earlier rotations left, in an emergency also what leaked and nobody reads. It fails with what a person has to
// do where that makes no room, or where there is no one current value to keep meanwhile. A rotation that comes here again
// with its key made needs no room.
func (j *job) makeRoom(l look, out *Prepared) error {
	full := j.checkCapacity(l)
	if full == nil || j.alreadyStaged(l.records) != nil {
		return nil
	}
	left := slices.DeleteFunc(slices.Clone(out.Old), func(r Ref) bool { return slices.ContainsFunc(l.currents, r.is) })
	if !j.canMakeRoom(l, left) {
		return full
	}
	out.Verdict.Work, out.Verdict.Rule = rotation.Finish, "no-room"
	out.Verdict.Message = fmt.Sprintf("The account is full: it holds %d keys. First what earlier rotations left is revoked (%s), then a rotation follows at once.",
		len(l.keys), strings.Join(names(left), ", "))
	out.New, out.Old, out.RotateAfter = &l.currents[0], left, true
	return nil
}

// canMakeRoom reports whether a rotation can revoke the keys before it mints, and whether that makes room.
func (j *job) canMakeRoom(l look, left []Ref) bool {
	keeps := l.facts.HasCurrent && !l.facts.StoresDisagree && !l.facts.CurrentRefused
	return keeps && slices.ContainsFunc(left, func(r Ref) bool { return hasKey(l.keys, r.KeyID) })
}

func names(refs []Ref) []string {
	var all []string
	for _, r := range refs {
		all = append(all, r.Name())
	}
	return all
}

// checkCapacity fails if the account is full, also when what is left over is deleted before the mint.
func (j *job) checkCapacity(l look) error {
	if !j.caps.List || !j.caps.Mint || j.caps.Limit == 0 {
		return nil
	}
	left := j.leftovers(l.keys, l.records)
	stay := slices.DeleteFunc(slices.Clone(l.keys), func(k providerKey) bool { return hasKey(left, k.ID) })
	if len(stay) < j.caps.Limit {
		return nil
	}
	var ids []string
	for _, k := range l.keys {
		ids = append(ids, k.ID)
	}
	var first string
	if duties := slices.DeleteFunc(slices.Clone(l.duties), func(r Ref) bool { return !hasKey(l.keys, r.KeyID) }); len(duties) > 0 {
		first = " Begin with what an earlier rotation left to be revoked: " + strings.Join(names(duties), ", ") + "."
	}
	return fault.New(fault.Rejected, "limit_reached", "find room for a new key of "+j.Key.Account).WithAdvice(
		"The account holds %d keys, the most that %s allows: %s. Delete one that nobody uses.%s", len(l.keys), j.Key.Provider, strings.Join(ids, ", "), first)
}
