package activities

import (
	"context"
	"slices"
	"strings"

	"go.temporal.io/sdk/activity"

	"github.com/rekeyhq/rekey/rotation"
	"github.com/rekeyhq/rekey/rotation/fault"
	"github.com/rekeyhq/rekey/rotation/signed"
)

// FourEyes is the code of the fault that refuses what two operators would have to sign.
const FourEyes = "four_eyes"

// RevokeSubjects are what a question can be about whose approval lets a key be revoked.
var RevokeSubjects = []string{"revoke-policy", "use-unknown", "key-in-use"}

// Signers returns the operators of whom two sign what a rotation of the key asks, as the worker's rekey.yaml has them
// now; none if the key is not under four eyes. Whoever starts a rotation chooses its input, so nothing of this may come
// from there.
func (s *Steps) Signers(_ context.Context, in Target) ([]rotation.Operator, error) {
	if err := s.Allow(in.Key); err != nil {
		return nil, err
	}
	return s.signers(in.Key)
}

func (e *Environment) signers(k rotation.Key) ([]rotation.Operator, error) {
	if !e.underFourEyes(k) {
		return nil, nil
	}
	if len(e.Operators) < rotation.Eyes {
		return nil, fault.New(fault.Rejected, FourEyes, "rotate "+k.Name).WithAdvice(
			"It was started with four_eyes, but this worker's rekey.yaml names no operators who could sign. Restart the worker with the present file, or run `rekey apply`.")
	}
	return e.Operators, nil
}

// underFourEyes believes an input that asks for four eyes, and no input that does not. A key that the file does not name
// counts as the strictest of those that it does: another name is no way around.
func (e *Environment) underFourEyes(k rotation.Key) bool {
	if k.Policy.FourEyes {
		return true
	}
	keys := e.Keys()
	if i := slices.IndexFunc(keys, func(o rotation.Key) bool { return o.Name == k.Name }); i >= 0 {
		return keys[i].Policy.FourEyes
	}
	return slices.ContainsFunc(keys, func(o rotation.Key) bool { return o.Policy.FourEyes })
}

// approved refuses to take keys away that two operators have to agree to and did not, but for an emergency.
func (j *job) approved(ctx context.Context, in RevokeInput, keys []trace) error {
	if in.Mode == EnableKey || !j.underFourEyes(j.Key) {
		return nil
	}
	err := j.signedByTwo(ctx, in, keys)
	if err != nil && in.Emergency != "" {
		// Waiting for a second person would leave a leaked key live; the record has to do.
		j.audit(ctx, "revoked without four eyes", "mode", string(in.Mode), "emergency_by", in.Emergency)
		return nil
	}
	return err
}

// signedByTwo believes nothing that the rotation says about its approval, but the signatures: a rotation's state could be
// made up.
func (j *job) signedByTwo(ctx context.Context, in RevokeInput, keys []trace) error {
	operators, err := j.signers(j.Key)
	if err != nil {
		return err
	}
	refuse := func(why string) error {
		return fault.New(fault.Rejected, FourEyes, "revoke a key of "+j.Key.Name).WithAdvice("Nothing was revoked. Four eyes: %s", why)
	}
	if in.Approval == nil {
		return refuse("nobody has signed that the key may go.")
	}
	q := in.Approval.Question
	if q.Kind != rotation.Approve || q.Key != j.Key.Name || q.Rotation != j.Rotation || !slices.Contains(RevokeSubjects, q.Subject) {
		return refuse("what was signed is not an approval of this revoke.")
	}
	if activity.IsActivity(ctx) {
		if i := activity.GetInfo(ctx); q.Workflow != i.WorkflowExecution.ID || q.Namespace != i.Namespace {
			return refuse("what was signed is for the rotation " + q.Workflow + " in the namespace " + q.Namespace + ".")
		}
	}
	for _, t := range keys {
		if !slices.Contains(q.Revokes, t.Name()) {
			return refuse("what was signed does not name the key " + t.Name() + ".")
		}
	}
	if why := j.expired(q, keys); why != "" {
		return refuse(why)
	}
	counted := signed.Count(q, in.Approval.Decisions, operators)
	if len(counted) < rotation.Eyes {
		return refuse("it takes the signatures of two operators whom the worker's rekey.yaml names now.")
	}
	var who []string
	for _, d := range counted {
		who = append(who, d.Signer.Operator+" "+d.Signer.Fingerprint)
	}
	j.audit(ctx, "revoke signed", "mode", string(in.Mode), "by", strings.Join(who, ", "))
	return nil
}
