package simcloud

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// awsError is how Secrets Manager says no: {"__type":"…","Message":"…"} (provider-apis.md §6). AWS echoes parts of what
// was asked in its texts, which is why they must not leave an adapter.
type awsError struct {
	status     int
	kind, text string
}

func (e *awsError) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", strings.ToLower(rand.Text()))
	w.WriteHeader(e.status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": e.kind, "Message": e.text})
}

// awsRefuse makes an error; AWS's are 400, but for its own faults.
func awsRefuse(kind, format string, args ...any) *awsError {
	return &awsError{status: http.StatusBadRequest, kind: kind, text: fmt.Sprintf(format, args...)}
}

func awsBad(format string, args ...any) *awsError {
	return awsRefuse("InvalidParameterException", format, args...)
}

func awsMissing(format string, args ...any) *awsError {
	return awsRefuse("ResourceNotFoundException", format, args...)
}

// injected is how a fault that a test set looks on the wire.
func (m *AWSSecrets) injected(w http.ResponseWriter, code int) {
	e := &awsError{status: code, kind: "InternalServiceError", text: "An error occurred on the server side."}
	switch code {
	case http.StatusTooManyRequests:
		e = awsRefuse("ThrottlingException", "Rate exceeded")
	case http.StatusForbidden:
		e = awsRefuse("AccessDeniedException", "User: arn:aws:iam::%s:user/rekey is not authorized to perform this operation", awsAccount)
	case http.StatusBadRequest:
		e = awsRefuse("InvalidRequestException", "You can't perform this operation on the secret because it was marked for deletion.")
	case http.StatusNotFound:
		e = awsMissing("Secrets Manager can't find the specified secret.")
	}
	e.write(w)
}

const awsTargetPrefix = "secretsmanager."

// route names operation and secret of a request, for journal and faults.
func (m *AWSSecrets) route(r *http.Request) (method, target string) {
	method = strings.TrimPrefix(r.Header.Get("X-Amz-Target"), awsTargetPrefix)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return method, ""
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	var about struct{ SecretId, Name string } //nolint:revive // AWS's own spelling
	_ = json.Unmarshal(body, &about)
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.find(about.SecretId); s != nil {
		return method, s.arn
	}
	return method, about.SecretId + about.Name
}

// ServeHTTP answers one request.
func (m *AWSSecrets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/" || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
		awsRefuse("SerializationException", "The request is not JSON 1.1.").write(w)
		return
	}
	if e := m.checkSignature(r, body); e != nil {
		e.write(w)
		return
	}
	name := strings.TrimPrefix(r.Header.Get("X-Amz-Target"), awsTargetPrefix)
	operation := m.operations()[name]
	if operation == nil {
		awsRefuse("UnknownOperationException", "").write(w)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.denied[name] {
		awsRefuse("AccessDeniedException", "User: arn:aws:iam::%s:user/rekey is not authorized to perform: secretsmanager:%s because no identity-based policy allows it", awsAccount, name).write(w)
		return
	}
	answer, refused := operation(body)
	if refused != nil {
		refused.write(w)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", strings.ToLower(rand.Text()))
	_ = json.NewEncoder(w).Encode(answer)
}

// decode reads the input of an operation. What AWS's model does not have is refused, loudly: nothing that is not
// simulated may look as if it worked.
func decode(body []byte, into any) *awsError {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if d.Decode(into) != nil {
		return awsRefuse("SerializationException", "The input is not understood, or not simulated.")
	}
	return nil
}

var awsAuthorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 Credential=([^/]+)/\d{8}/([a-z0-9-]+)/secretsmanager/aws4_request, SignedHeaders=([a-z0-9;-]+), Signature=[0-9a-f]{64}$`)

// checkSignature signs the request once more, with the SDK's own signer, and compares (AWS's docs: Signature Version 4;
// a signature is good for five minutes, and the clock is the real one, since the SDK signs by that).
func (m *AWSSecrets) checkSignature(r *http.Request, body []byte) *awsError {
	found := awsAuthorization.FindStringSubmatch(r.Header.Get("Authorization"))
	if found == nil {
		return awsRefuse("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	if found[1] != AWSAccessKey {
		return awsRefuse("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(at).Abs() > 5*time.Minute || found[2] != m.opts.Region {
		return awsRefuse("InvalidSignatureException", "Signature expired, or credential scoped to another region.")
	}
	signed := strings.Split(found[3], ";")
	for _, must := range []string{"host", "x-amz-date", "x-amz-target"} {
		if !slices.Contains(signed, must) {
			return awsRefuse("InvalidSignatureException", "A header that must be signed is not.")
		}
	}
	again, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+r.Host+"/", bytes.NewReader(body))
	if err != nil {
		return awsRefuse("InvalidSignatureException", "The request cannot be signed.")
	}
	for _, name := range signed {
		if values := r.Header.Values(name); name != "host" && len(values) > 0 {
			again.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	if !slices.Contains(signed, "content-length") {
		again.ContentLength = 0
	}
	sum := sha256.Sum256(body)
	who := aws.Credentials{AccessKeyID: AWSAccessKey, SecretAccessKey: AWSSecretKey}
	if v4.NewSigner().SignHTTP(r.Context(), who, again, hex.EncodeToString(sum[:]), "secretsmanager", m.opts.Region, at) != nil ||
		subtle.ConstantTimeCompare([]byte(again.Header.Get("Authorization")), []byte(r.Header.Get("Authorization"))) != 1 {
		return awsRefuse("InvalidSignatureException", "The request signature we calculated does not match the signature you provided.")
	}
	return nil
}
