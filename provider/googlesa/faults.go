package googlesa

import (
	"context"
	"regexp"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rekeyhq/rekey/internal/googleapi"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// The codes of the two refusals to which Google gives the same status.
const (
	// CodeKeyLimit: the account is full.
	CodeKeyLimit = "key_limit"
	// CodeOrgPolicy: an organization policy forbids the request.
	CodeOrgPolicy = "org_policy"
)

// effect is what a request does at Google.
type effect int

const (
	reads effect = iota
	changes
)

// fault classifies an error of the IAM client. It keeps the status code and what the details say in types of their
// own; no text passes. What IAM means by a code, and what to do about it, is added here.
func (p *Provider) fault(err error, what, account string, e effect) *fault.Error {
	what = p.doing(what)
	f, s := googleapi.Fault(err, what, e != reads)
	switch s.Code() {
	case codes.NotFound:
		return f.WithAdvice("Look whether it exists: %s.", fault.Link(p.Console(account)))
	case codes.PermissionDenied, codes.Unauthenticated:
		return f.WithAdvice("Grant rekey's own identity roles/iam.serviceAccountKeyAdmin on %s, and look whether that account exists.", account)
	case codes.FailedPrecondition:
		if constraint, forbidden := forbids(s); forbidden {
			return fault.New(fault.Rejected, CodeOrgPolicy, what).WithAdvice(
				"Organization policy %s forbids it: lift it for this account's project. Organizations made since 3 May 2024 forbid both, making keys and uploading them, so another mode may not help.", constraint)
		}
	}
	return f
}

// mintFault is fault for a request that was to make a key. A refusal without any detail is how Google reports that an
// account is full, but not only that: so the list is asked. It only reads.
func (p *Provider) mintFault(ctx context.Context, err error, what, account string) *fault.Error {
	f := p.fault(err, what, account, changes)
	// How Google reported the limit until about 2022: an exhausted quota whose "retry delay" is a day.
	daily := f.Class == fault.Throttled && f.RetryAfter >= time.Hour
	if f.Code != codes.FailedPrecondition.String() && !daily {
		return f
	}
	held, known := p.count(ctx, account)
	switch {
	case known && held >= keyLimit:
		return fault.New(fault.Rejected, CodeKeyLimit, f.Doing).WithAdvice(
			"The account holds %d keys, and %d is Google's limit; disabled ones count. Delete one that nobody needs: %s.", held, keyLimit, fault.Link(p.Console(account)))
	case daily:
		return f
	case known:
		return f.WithAdvice("Google does not say why. The account shows %d keys of the %d that it may hold, so look whether it is disabled and which organization policies hold for its project: %s.", held, keyLimit, fault.Link(p.Console(account)))
	}
	return f.WithAdvice("Google does not say why: look how many keys the account holds (%d is the limit), whether it is disabled, and which organization policies hold for its project: %s.", keyLimit, fault.Link(p.Console(account)))
}

// constraintName is an organization policy's constraint, as details name it. Anything else in them is not shown.
var constraintName = regexp.MustCompile(`^(?:constraints|customConstraints)/([A-Za-z][A-Za-z0-9._]{2,120})$`)

// forbids finds the organization policy that a refusal is about. The managed constraints, and an organization's own, come
// as an ErrorInfo; the older ones as a PreconditionFailure.
func forbids(s *status.Status) (constraint string, forbidden bool) {
	for _, d := range s.Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok && i.GetReason() == "CUSTOM_ORG_POLICY_VIOLATION" {
			var names []string
			for _, name := range strings.FieldsFunc(i.GetMetadata()["customConstraints"], func(r rune) bool { return r == ',' || r == ' ' }) {
				if m := constraintName.FindStringSubmatch(name); m != nil && len(names) < 5 {
					names = append(names, m[1])
				}
			}
			if names == nil {
				names = []string{"(Google does not name it)"}
			}
			return strings.Join(names, ", "), true
		}
	}
	for _, d := range s.Details() {
		if f, ok := d.(*errdetails.PreconditionFailure); ok {
			for _, v := range f.GetViolations() {
				if m := constraintName.FindStringSubmatch(v.GetType()); m != nil {
					return m[1], true
				}
			}
		}
	}
	return "", false
}
