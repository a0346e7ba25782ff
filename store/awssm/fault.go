package awssm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/rekeyhq/rekey/rotation/fault"
)

// call says what was tried, on which secret, with which operation, and whether it changes something.
type call struct {
	what, id, operation string
	changes             bool
}

// cutOff is the code of a good answer that could not be read to its end.
const cutOff = "cut_off"

// errNoCredentials stands for whatever the credentials' source said, which can quote files and answers.
var errNoCredentials = errors.New("no credentials")

// marked distinguishes errors of the credentials' source from AWS's answers.
type marked struct{ aws.CredentialsProvider }

// Retrieve returns the credentials, or errNoCredentials.
func (m marked) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := m.CredentialsProvider.Retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, errNoCredentials
	}
	return c, nil
}

// classes are AWS's codes (API reference, errors of Secrets Manager and common errors).
var classes = map[string]fault.Class{
	"ResourceNotFoundException":           fault.NotFound,
	"AccessDeniedException":               fault.AccessDenied,
	"AccessDenied":                        fault.AccessDenied,
	"UnrecognizedClientException":         fault.AccessDenied,
	"InvalidClientTokenId":                fault.AccessDenied,
	"InvalidSignatureException":           fault.AccessDenied,
	"SignatureDoesNotMatch":               fault.AccessDenied,
	"IncompleteSignature":                 fault.AccessDenied,
	"MissingAuthenticationTokenException": fault.AccessDenied,
	"ExpiredTokenException":               fault.AccessDenied,
	"ExpiredToken":                        fault.AccessDenied,
	"NotAuthorized":                       fault.AccessDenied,
	"OptInRequired":                       fault.AccessDenied,
	"DecryptionFailure":                   fault.AccessDenied,
	"EncryptionFailure":                   fault.AccessDenied,
	"ThrottlingException":                 fault.Throttled,
	"Throttling":                          fault.Throttled,
	"TooManyRequestsException":            fault.Throttled,
	"RequestLimitExceeded":                fault.Throttled,
	"LimitExceededException":              fault.Rejected,
	"InvalidParameterException":           fault.Rejected,
	"InvalidRequestException":             fault.Rejected,
	"InvalidNextTokenException":           fault.Rejected,
	"ValidationException":                 fault.Rejected,
	"ValidationError":                     fault.Rejected,
	"ResourceExistsException":             fault.Rejected,
	"PreconditionNotMetException":         fault.Rejected,
	"InternalServiceError":                fault.Unavailable,
	"InternalFailure":                     fault.Unavailable,
	"ServiceUnavailable":                  fault.Unavailable,
	"ServiceUnavailableException":         fault.Unavailable,
	"RequestTimeout":                      fault.Unavailable,
}

// fault classifies an error of the client by AWS's code, else by the HTTP status; no text passes. Without a clear
// answer a request that changes something is Unsettled.
func (s *Store) fault(err error, on call) *fault.Error {
	doing := s.doing(on.what)
	if errors.Is(err, errNoCredentials) {
		return fault.New(fault.AccessDenied, "no_credentials", doing).WithAdvice("AWS credentials could not be had (the default chain, and the role of rekey.yaml if it names one). Run rekey as a role, or set AWS_PROFILE.")
	}
	var status int
	var retryAfter time.Duration
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok && answer.Response != nil {
		status = answer.HTTPStatusCode()
		if n, err := strconv.Atoi(answer.Response.Header.Get("Retry-After")); err == nil && n > 0 {
			retryAfter = time.Duration(n) * time.Second
		}
	}
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok && status == 0 {
		f := fault.New(fault.Unavailable, "no_answer", doing)
		f.Unsettled = on.changes
		return f
	}
	if !ok && status < http.StatusMultipleChoices {
		// A good answer whose body broke off, or makes no sense.
		f := fault.New(fault.Unavailable, cutOff, doing)
		f.Unsettled = on.changes
		return f
	}
	code := strconv.Itoa(status)
	class, known := fault.Internal, false
	if ok {
		class, known = classes[api.ErrorCode()]
		if known {
			code = api.ErrorCode()
		}
	}
	if !known {
		class = byStatus(status)
	}
	f := fault.New(class, code, doing)
	f.RetryAfter = retryAfter
	f.Unsettled = on.changes && (class == fault.Unavailable || class == fault.Internal)
	return s.advise(f, on)
}

func byStatus(status int) fault.Class {
	switch {
	case status == http.StatusForbidden || status == http.StatusUnauthorized:
		return fault.AccessDenied
	case status == http.StatusTooManyRequests:
		return fault.Throttled
	case status >= http.StatusInternalServerError:
		return fault.Unavailable
	default:
		return fault.Internal
	}
}

// advise says what a person can do about it.
func (s *Store) advise(f *fault.Error, on call) *fault.Error {
	switch {
	case f.Code == "DecryptionFailure" || f.Code == "EncryptionFailure":
		return f.WithAdvice("AWS cannot use the KMS key of secret %s: rekey's identity needs kms:Decrypt and kms:GenerateDataKey on it, and it must be enabled.", on.id)
	case f.Class == fault.AccessDenied:
		return f.WithAdvice("rekey's own identity lacks secretsmanager:%s on secret %s, or its credentials are refused. docs/stores/aws-secrets-manager.md has the policy that it needs.", on.operation, on.id)
	case f.Class == fault.NotFound:
		return f.WithAdvice("Look whether it exists, in this account and region: %s", fault.Link(s.Console(on.id)))
	case f.Code == "LimitExceededException":
		return f.WithAdvice("Secret %s has as many versions or labels as AWS keeps. AWS deletes versions without labels when they are a day old: wait, and look who writes so often: %s", on.id, fault.Link(s.Console(on.id)))
	case f.Class == fault.Throttled:
		// AWS's quotas are counted in a second.
		f.RetryAfter = max(f.RetryAfter, time.Second)
		return f
	case f.Class == fault.Rejected:
		return f.WithAdvice("Look at the secret; it may be marked for deletion, or be a replica: %s", fault.Link(s.Console(on.id)))
	}
	return f
}

func (s *Store) doing(what string) string { return what + " (" + s.opts.Name + ")" }

func (s *Store) refuse(code, what, advice string, args ...any) *fault.Error {
	return fault.New(fault.Rejected, code, s.doing(what)).WithAdvice("%s", fmt.Sprintf(advice, args...))
}
