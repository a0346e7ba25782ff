package simcloud

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
)

// chatParameters are what the chat completions of OpenAI's Go client (openai-go v3.96.0) can carry. Those that
// are not read below are accepted and ignored; streaming is not simulated, and refused.
var chatParameters = strings.Fields(`messages model frequency_penalty logprobs max_completion_tokens max_tokens n
	presence_penalty prompt_cache_key safety_identifier seed store temperature top_logprobs top_p parallel_tool_calls
	user audio logit_bias metadata modalities moderation prompt_cache_retention reasoning_effort service_tier stop
	stream stream_options verbosity function_call functions prediction prompt_cache_options response_format
	tool_choice tools web_search_options`)

var chatRoles = []string{"developer", "system", "user", "assistant", "tool", "function"}

type chatRequest struct {
	Model       string        `json:"model"`
	Messages    []chatMessage `json:"messages"`
	Stream      bool          `json:"stream"`
	N           *int          `json:"n"`
	Temperature *float64      `json:"temperature"`
	MaxTokens   *int          `json:"max_completion_tokens"`
}

type chatMessage struct {
	Role    string          `json:"role"`
	Content json.RawMessage `json:"content"`
}

func (o *OpenAI) listModels(w http.ResponseWriter, _ *http.Request) {
	models := make([]map[string]any, 0, len(o.options.Models))
	for _, id := range o.options.Models {
		models = append(models, map[string]any{"id": id, "object": "model", "created": 1754524800, "owned_by": "system"})
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"object": "list", "data": models})
}

// chat answers "ok" to everything that the real one would not refuse.
func (o *OpenAI) chat(w http.ResponseWriter, r *http.Request) {
	request, refusal := o.readChat(r)
	if refusal != nil {
		refusal.write(w)
		return
	}
	words := 0
	for _, m := range request.Messages {
		words += len(strings.Fields(string(m.Content)))
	}
	n := 1
	if request.N != nil {
		n = *request.N
	}
	choices := make([]map[string]any, n)
	for i := range choices {
		choices[i] = map[string]any{
			"index": i, "finish_reason": "stop", "logprobs": nil,
			"message": map[string]any{"role": "assistant", "content": "ok", "refusal": nil, "annotations": []any{}},
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"id": "chatcmpl-" + rand.Text(), "object": "chat.completion", "created": o.cloud.Now().Unix(), "model": request.Model,
		"choices": choices, "service_tier": "default",
		"usage": map[string]any{"prompt_tokens": words, "completion_tokens": n, "total_tokens": words + n},
	})
}

// readChat reads the body and says what is wrong with it.
func (o *OpenAI) readChat(r *http.Request) (chatRequest, *openAIError) {
	bad := func(param, code, format string, args ...any) (chatRequest, *openAIError) {
		return chatRequest{}, refuse(http.StatusBadRequest, invalidRequest, param, code, format, args...)
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return bad("", "", "The request body must be of the type application/json.")
	}
	var fields map[string]json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&fields); err != nil {
		return bad("", "", "We could not parse the JSON body of your request.")
	}
	for name := range fields {
		if !slices.Contains(chatParameters, name) {
			return bad(name, "unknown_parameter", "Unknown parameter: '%s'.", name)
		}
	}
	var request chatRequest
	for name, into := range map[string]any{
		"model": &request.Model, "messages": &request.Messages, "stream": &request.Stream,
		"n": &request.N, "temperature": &request.Temperature, "max_completion_tokens": &request.MaxTokens,
	} {
		if raw, given := fields[name]; given && json.Unmarshal(raw, into) != nil {
			return bad(name, "invalid_type", "Invalid type for '%s'.", name)
		}
	}
	switch {
	case request.Model == "":
		return bad("model", "missing_required_parameter", "you must provide a model parameter")
	case fields["messages"] == nil:
		return bad("messages", "missing_required_parameter", "Missing required parameter: 'messages'.")
	case len(request.Messages) == 0:
		return bad("messages", "empty_array", "Invalid 'messages': empty array.")
	case request.Stream:
		return bad("stream", "unsupported_value", "This simulated OpenAI does not stream.")
	case fields["stream_options"] != nil:
		return bad("stream_options", "", "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
	case request.N != nil && (*request.N < 1 || *request.N > 128):
		return bad("n", "integer_out_of_range", "Invalid 'n'.")
	case request.Temperature != nil && (*request.Temperature < 0 || *request.Temperature > 2):
		return bad("temperature", "decimal_out_of_range", "Invalid 'temperature'.")
	case request.MaxTokens != nil && *request.MaxTokens < 1:
		return bad("max_completion_tokens", "integer_below_min_value", "Invalid 'max_completion_tokens'.")
	}
	for i, m := range request.Messages {
		if !slices.Contains(chatRoles, m.Role) {
			return bad(fmt.Sprintf("messages[%d].role", i), "invalid_value", "Invalid value for the role of message %d.", i)
		}
		// Only an assistant's message may be without content (it can hold tool calls instead).
		if (len(m.Content) == 0 || string(m.Content) == "null") && m.Role != "assistant" {
			return bad(fmt.Sprintf("messages[%d].content", i), "invalid_type", "Invalid type for the content of message %d.", i)
		}
	}
	if !slices.Contains(o.options.Models, request.Model) {
		return chatRequest{}, refuse(http.StatusNotFound, invalidRequest, "", "model_not_found", "The model `%s` does not exist or you do not have access to it.", request.Model)
	}
	return request, nil
}
