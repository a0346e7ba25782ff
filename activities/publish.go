package activities

import (
	"context"
	"fmt"
	"time"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/secret"
	"github.com/rekeyhq/rekey/store"
)

// StoreInput asks to bring the pending value to every store.
type StoreInput struct {
	Target
	New Ref `json:"new"`
}

// Store makes the value of the first store pending in every other one, and returns it with all version numbers.
func (s *Steps) Store(ctx context.Context, in StoreInput) (Ref, error) {
	j, err := s.changing(ctx, in.Target)
	if err != nil {
		return in.New, err
	}
	records, err := j.loadAll(ctx)
	if err != nil {
		return in.New, err
	}
	t, known, err := j.trace(ctx, in.New, records)
	if err != nil {
		return in.New, err
	}
	if !known || !t.pendingHere && !t.wasRead && !t.isDuty {
		return in.New, j.unknownValue(ctx, in.New)
	}
	in.New = t.Ref
	value, found, err := j.value(ctx, in.New)
	if err != nil {
		return in.New, err
	}
	if !found {
		return in.New, j.gone(in.New)
	}
	for i := range j.stores {
		var replaced, number string
		snap, err := j.edit(ctx, i, func(s *store.Snapshot) (bool, error) {
			// Current, too: a workflow that was reset comes here after its own promote.
			if staged(in.New, s.Pending, s.Current) {
				return false, nil
			}
			if p := s.Pending; p != nil && p.Rotation == "" {
				return false, fault.New(fault.Rejected, "foreign_pending", "stage the new key in "+j.Key.Stores[i].String()).
					WithAdvice("Version %s is pending there and rekey did not put it there. Remove it, or roll back.", p.Number)
			} else if p != nil {
				replaced = p.Number
			}
			if number == "" {
				if number, err = j.stores[i].Add(ctx, j.path(i), value); err != nil {
					return false, err
				}
			}
			s.Install = j.Install
			s.Pending = &store.Version{
				Number: number, KeyID: in.New.KeyID, Stamp: in.New.Stamp, Rotation: j.Rotation, Fingerprint: in.New.Fingerprint, StagedAt: j.now(),
			}
			return true, nil
		})
		if err != nil {
			return in.New, err
		}
		if replaced != "" {
			_ = j.stores[i].Destroy(ctx, j.path(i), replaced)
		}
		for _, v := range snap.Stages() {
			if v.Fingerprint == in.New.Fingerprint {
				in.New.Numbers[i] = v.Number
			}
		}
	}
	return in.New, nil
}

func (j *job) gone(r Ref) error {
	return fault.New(fault.Rejected, "value_gone", fmt.Sprintf("read the value %s of %s", r.Name(), j.Key.Name)).
		WithAdvice("Its versions (%v) cannot be read in any store any more; somebody destroyed them.", r.Numbers)
}

// VerifyInput asks to prove a value.
type VerifyInput struct {
	Target
	Value Ref `json:"value"`
	// MayBeRevoked is until when a person may have revoked it, because the rotation had asked for that: it is not proven
	// before the provider would refuse it. Zero if nobody was asked.
	MayBeRevoked time.Time `json:"mayBeRevoked,omitzero"`
}

// Verified is the proof of a value, or what is wrong with it.
type Verified struct {
	OK bool `json:"ok"`
	// Final: waiting will not help (another account, another value in a store). Otherwise the key may only be
	// too young.
	Final bool   `json:"final,omitempty"`
	Why   string `json:"why,omitempty"`
	// Wait, if set, is how long to wait before it can be proven: a request to take it away may still take effect.
	Wait rotation.Duration `json:"wait,omitempty"`
}

// LateCaches is by how much a provider's caches live longer than it says.
const LateCaches = 10 * time.Second

// probes in a row must be accepted: the provider's front ends learn of a new key one after another.
const probes = 3

// Verify reads the value back from every store by version number and proves it at the provider. Not before every request to
// take the key away is settled: what is accepted now could be gone a moment later.
func (s *Steps) Verify(ctx context.Context, in VerifyInput) (Verified, error) {
	j, err := s.job(in.Target)
	if err != nil {
		return Verified{}, err
	}
	records, err := j.loadAll(ctx)
	if err != nil {
		return Verified{}, err
	}
	if rest := j.pendingRevoke(in.Value, records); rest > 0 {
		if err := j.redateWhileLooking(ctx, records); err != nil {
			return Verified{}, err
		}
		return Verified{Wait: waitFor(rest)}, nil
	}
	if !in.MayBeRevoked.IsZero() {
		// Whatever the input says, it is no longer than this.
		lag := j.caps.RevocationLag + LateCaches
		if rest := min(in.MayBeRevoked.Add(lag).Sub(j.now()), lag); rest > 0 {
			return Verified{Wait: waitFor(rest)}, nil
		}
	}
	var value secret.Value
	for i, number := range in.Value.Numbers {
		if number == "" {
			return Verified{Final: true, Why: "The value is not in " + j.Key.Stores[i].String() + "."}, nil
		}
		v, err := j.stores[i].Read(ctx, j.path(i), number)
		if fault.Is(err, fault.NotFound) {
			return Verified{Final: true, Why: fmt.Sprintf("Version %s of %s is gone.", number, j.Key.Stores[i])}, nil
		} else if err != nil {
			return Verified{}, err
		}
		if v.Fingerprint() != in.Value.Fingerprint {
			return Verified{Final: true, Why: fmt.Sprintf("Version %s of %s holds another value (%s) than the one that was stored (%s).", number, j.Key.Stores[i], v.Fingerprint(), in.Value.Fingerprint)}, nil
		}
		value = v
	}
	if value.IsEmpty() {
		return Verified{Final: true, Why: j.gone(in.Value).Error()}, nil
	}
	for range probes {
		proof, err := j.provider.Probe(ctx, j.Key.Account, value)
		if err != nil {
			return Verified{}, err
		}
		if !proof.Accepted {
			return Verified{Why: fmt.Sprintf("%s refuses the value %s (%s).", j.Key.Provider, in.Value.Fingerprint, proof.Code)}, nil
		}
		if proof.Account != "" && proof.Account != j.Key.Account {
			return Verified{Final: true, Why: fmt.Sprintf("%s says that the key belongs to %s, wanted is %s.", j.Key.Provider, proof.Account, j.Key.Account)}, nil
		}
	}
	return Verified{OK: true}, nil
}

// HealthInput asks how new and old key are.
type HealthInput struct {
	Target
	New Ref   `json:"new"`
	Old []Ref `json:"old,omitempty"`
}

// Health is how new and old key are during grace.
type Health struct {
	New bool `json:"new"`
	// Old is asked only when the new key is refused: our own probes must not count as use of the old key.
	Old bool `json:"old,omitempty"`
	// Current: applications still read the new value in every store.
	Current bool   `json:"current"`
	Why     string `json:"why,omitempty"`
}

// CheckHealth proves the new key again, and the first old one from the same place if the new one is refused.
func (s *Steps) CheckHealth(ctx context.Context, in HealthInput) (Health, error) {
	j, err := s.job(in.Target)
	if err != nil {
		return Health{}, err
	}
	out := Health{Current: true}
	for i, s := range j.stores {
		v, err := s.Published(ctx, j.path(i))
		if err != nil && !fault.Is(err, fault.NotFound) {
			return out, err
		}
		if err != nil || v.Fingerprint() != in.New.Fingerprint {
			out.Current, out.Why = false, fmt.Sprintf("%s no longer gives applications the new value: somebody changed it.", j.Key.Stores[i])
		}
	}
	accepted := func(r Ref) (bool, error) {
		v, found, err := j.value(ctx, r)
		if err != nil || !found {
			return false, err
		}
		proof, err := j.provider.Probe(ctx, j.Key.Account, v)
		return proof.Accepted, err
	}
	if out.New, err = accepted(in.New); err != nil || out.New {
		return out, err
	}
	out.Why = fmt.Sprintf("%s refuses the new value %s.", j.Key.Provider, in.New.Fingerprint)
	if len(in.Old) > 0 {
		out.Old, err = accepted(in.Old[0])
	}
	return out, err
}

// GuardInput asks whether old keys are in use.
type GuardInput struct {
	Target
	Old []Ref `json:"old"`
}

// Guard asks the provider's metadata for the last use of every old key. The answer is a signal for each; the rule
// that judges them is rotation.Judge.
func (s *Steps) Guard(ctx context.Context, in GuardInput) ([]rotation.UsageReport, error) {
	j, err := s.job(in.Target)
	if err != nil {
		return nil, err
	}
	signals := make([]rotation.UsageReport, len(in.Old))
	for i, r := range in.Old {
		signals[i] = rotation.UsageReport{AskedAt: j.now()}
		switch {
		case !j.caps.Usage:
			signals[i].Message = j.Key.Provider + " does not tell when a key was last used"
		case r.KeyID == "":
			signals[i].Message = "the old key's id is not known"
		default:
			u, err := j.provider.Usage(ctx, j.Key.Account, r.KeyID)
			if err != nil {
				return nil, err
			}
			signals[i].Known, signals[i].LastUsed, signals[i].Freshness = true, u.LastUsed, rotation.Duration(u.Freshness)
		}
	}
	return signals, nil
}
