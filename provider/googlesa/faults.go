package googlesa

import (
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rekeyhq/rekey/internal/google"
	"github.com/rekeyhq/rekey/rotation/fault"
)

// The codes of the two refusals that Google gives the same status.
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
	creates
)

// fault classifies an error of the IAM client. It keeps the status code and what the details say in types of their
// own; no text passes. What IAM means by a code, and what to do about it, is added here.
func (p *Provider) fault(err error, what, account string, e effect) *fault.Error {
	what = p.doing(what)
	f, s := google.Fault(err, what, e != reads)
	switch s.Code() {
	case codes.NotFound:
		return f.WithAdvice("Look whether it exists: %s.", p.Console(account))
	case codes.PermissionDenied, codes.Unauthenticated:
		return f.WithAdvice("Grant rekey's own identity roles/iam.serviceAccountKeyAdmin on %s, and look whether that account exists.", account)
	case codes.ResourceExhausted:
		// How Google told the limit until about 2022: the "retry delay" was a day.
		if e == creates && f.RetryAfter >= time.Hour {
			return p.full(what, account)
		}
	case codes.FailedPrecondition:
		constraint, violated := violation(s)
		switch {
		case strings.Contains(constraint, "disableServiceAccountKeyUpload"):
			return fault.New(fault.Rejected, CodeOrgPolicy, what).WithAdvice("Organization policy iam.disableServiceAccountKeyUpload forbids it: lift it for this project, or set the mode %q.", Create)
		case strings.Contains(constraint, "disableServiceAccountKeyCreation"):
			return fault.New(fault.Rejected, CodeOrgPolicy, what).WithAdvice("Organization policy iam.disableServiceAccountKeyCreation forbids it: lift it for this project, or set the mode %q.", Upload)
		case strings.HasPrefix(constraint, "constraints/"):
			return fault.New(fault.Rejected, CodeOrgPolicy, what).WithAdvice("An organization policy on service accounts forbids it: look at the project's policies.")
		case e == creates && !violated:
			return p.full(what, account)
		}
	}
	return f
}

// full is a refusal without any detail: that is how Google tells that an account holds its ten keys.
func (p *Provider) full(what, account string) *fault.Error {
	return fault.New(fault.Rejected, CodeKeyLimit, what).WithAdvice(
		"The account probably holds %d keys, which is Google's limit; disabled ones count. Delete one that nobody needs: %s.", keyLimit, p.Console(account))
}

func violation(s *status.Status) (constraint string, violated bool) {
	for _, d := range s.Details() {
		if f, ok := d.(*errdetails.PreconditionFailure); ok && len(f.GetViolations()) > 0 {
			return f.GetViolations()[0].GetType(), true
		}
	}
	return "", false
}
