package simcloud

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"
)

// openAIError is OpenAI's error envelope: {"error":{"message","type","param","code"}}. Codes that are not known
// from its documentation or from reports of its users are null, as they often are in the real one.
type openAIError struct {
	status     int
	retryAfter time.Duration

	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    *string `json:"code"`
}

func (e *openAIError) write(w http.ResponseWriter) {
	if e.retryAfter > 0 {
		// OpenAI's own clients read both.
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.retryAfter.Seconds()))))
		w.Header().Set("Retry-After-Ms", strconv.FormatInt(e.retryAfter.Milliseconds(), 10))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.status)
	_ = json.NewEncoder(w).Encode(map[string]*openAIError{"error": e})
}

// refuse makes an error; an empty param or code is null on the wire.
func refuse(status int, kind, param, code, format string, args ...any) *openAIError {
	e := &openAIError{status: status, Type: kind, Message: fmt.Sprintf(format, args...)}
	if param != "" {
		e.Param = &param
	}
	if code != "" {
		e.Code = &code
	}
	return e
}

// OpenAI's docs call almost everything this.
const invalidRequest = "invalid_request_error"

func noKey() *openAIError {
	return refuse(http.StatusUnauthorized, invalidRequest, "", "", "You didn't provide an API key. Send it in an Authorization header using Bearer auth.")
}

// wrongKey echoes part of the key, as the real one does: the reason why provider text must not leave an adapter.
func wrongKey(token string) *openAIError {
	return refuse(http.StatusUnauthorized, invalidRequest, "", "invalid_api_key", "Incorrect API key provided: %s.", redact(token))
}

// OpenAI's docs (error codes) know this 401 by name; its code is from reports of users.
func addressNotAuthorized() *openAIError {
	return refuse(http.StatusUnauthorized, invalidRequest, "", "ip_not_authorized", "Your IP is not authorized.")
}

func regionalHost(region string) string { return region + ".api.openai.com" }

// Code and text as users report them (agent-ecosystem/skill-validator issue 70, earendil-works/pi issue 956).
func incorrectHostname(region string) *openAIError {
	return refuse(http.StatusUnauthorized, invalidRequest, "", "incorrect_hostname", "Attempted to access resource with incorrect regional hostname. Please make your request to %s", regionalHost(region))
}

// Code and text as users report them.
func otherOrganization() *openAIError {
	return refuse(http.StatusUnauthorized, invalidRequest, "", "mismatched_organization", "OpenAI-Organization header should match organization for API key")
}

// Code and text as users report them.
func otherProject() *openAIError {
	return refuse(http.StatusUnauthorized, invalidRequest, "", "mismatched_project", "OpenAI-Project header should match project for API key")
}

// Users report a null code and this beginning of the text.
func missingScope(status int, scope string) *openAIError {
	return refuse(status, invalidRequest, "", "", "You have insufficient permissions for this operation. Missing scopes: %s.", scope)
}

// OpenAI's docs: a 429 that waiting does not cure. It carries no Retry-After.
func noQuota() *openAIError {
	return refuse(http.StatusTooManyRequests, "insufficient_quota", "", "insufficient_quota", "You exceeded your current quota, please check your plan and billing details.")
}

func tooManyRequests(wait time.Duration) *openAIError {
	e := refuse(http.StatusTooManyRequests, "requests", "", "rate_limit_exceeded", "Rate limit reached for requests per min.")
	e.retryAfter = wait
	return e
}

// injected is how a fault that a test set looks on the wire.
func (o *OpenAI) injected(w http.ResponseWriter, code int) {
	e := refuse(code, invalidRequest, "", "", "injected failure")
	switch {
	case code == http.StatusUnauthorized:
		e = refuse(code, invalidRequest, "", "invalid_api_key", "Incorrect API key provided: %s.", redact("sk-injected-failure-0000"))
	case code == http.StatusTooManyRequests:
		e = refuse(code, "requests", "", "rate_limit_exceeded", "Rate limit reached for requests per min.")
	case code >= http.StatusInternalServerError:
		e = refuse(code, "server_error", "", "server_error", "The server had an error while processing your request.")
	}
	e.write(w)
}

// unknownURL answers what is not simulated, loudly: nothing may look as if it worked.
func (o *OpenAI) unknownURL(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/v1/models", "/v1/chat/completions":
		refuse(http.StatusMethodNotAllowed, invalidRequest, "", "method_not_supported", "Not allowed to %s on %s.", r.Method, r.URL.Path).write(w)
	default:
		refuse(http.StatusNotFound, invalidRequest, "", "", "Invalid URL (%s %s)", r.Method, r.URL.Path).write(w)
	}
}
