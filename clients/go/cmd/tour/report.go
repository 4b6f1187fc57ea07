package main

import (
	"math"

	"lookalike.example/client"
	lookalikev1 "lookalike.example/client/gen/lookalike/v1"
)

// report is what the tour prints. Steps that were not reached are omitted.
type report struct {
	Health        string        `json:"health,omitzero"`
	Model         *model        `json:"model,omitzero"`
	SearchByImage *searchResult `json:"search_by_image,omitzero"`
	SearchByID    *searchResult `json:"search_by_id,omitzero"`
	EmbedStream   []item        `json:"embed_stream,omitzero"`
	// BadImage points to nil, which is printed as null, where the server accepted the file.
	BadImage **client.CallError `json:"bad_image,omitzero"`
	Failed   *failure           `json:"failed,omitzero"`
}

type failure struct {
	Step  string            `json:"step"`
	Error *client.CallError `json:"error"`
}

type model struct {
	Name        string `json:"name"`
	Backbone    string `json:"backbone"`
	Weights     string `json:"weights"`
	Dim         uint32 `json:"dim"`
	Metric      string `json:"metric"`
	InputWidth  uint32 `json:"input_width"`
	InputHeight uint32 `json:"input_height"`
	Precision   string `json:"precision"`
	Digest      string `json:"digest"`
}

type searchResult struct {
	Neighbors   []neighbor `json:"neighbors"`
	ModelDigest string     `json:"model_digest"`
}

type neighbor struct {
	ID         string  `json:"id"`
	Category   string  `json:"category"`
	Title      string  `json:"title"`
	Distance   float64 `json:"distance"`
	Similarity float64 `json:"similarity"`
	ImageIndex uint32  `json:"image_index"`
}

// item is the result for one image of the stream: an embedding or an error.
type item struct {
	ID string `json:"id"`
	*embedding
	Error *client.CallError `json:"error,omitzero"`
}

type embedding struct {
	Dim   int       `json:"dim"`
	Norm  float64   `json:"norm"`
	First []float64 `json:"first"`
}

func describeModel(response *lookalikev1.GetModelResponse) *model {
	return &model{
		Name:        response.GetName(),
		Backbone:    response.GetBackbone(),
		Weights:     response.GetWeights(),
		Dim:         response.GetDim(),
		Metric:      response.GetMetric().String(),
		InputWidth:  response.GetInputWidth(),
		InputHeight: response.GetInputHeight(),
		Precision:   response.GetPrecision(),
		Digest:      response.GetDigest(),
	}
}

func describeSearch(response *lookalikev1.SearchResponse) *searchResult {
	neighbors := make([]neighbor, 0, len(response.GetNeighbors()))
	for _, each := range response.GetNeighbors() {
		neighbors = append(neighbors, neighbor{
			ID:         each.GetProduct().GetId(),
			Category:   each.GetProduct().GetCategory(),
			Title:      each.GetProduct().GetTitle(),
			Distance:   number(each.GetDistance()),
			Similarity: number(each.GetSimilarity()),
			ImageIndex: each.GetImageIndex(),
		})
	}
	return &searchResult{Neighbors: neighbors, ModelDigest: response.GetStats().GetModelDigest()}
}

func describeItem(response *lookalikev1.EmbedStreamResponse) item {
	if status := response.GetStatus(); status != nil {
		return item{ID: response.GetId(), Error: client.FromStatus(status)}
	}
	return item{ID: response.GetId(), embedding: describeEmbedding(response.GetEmbedding().GetValues())}
}

func describeEmbedding(values []float32) *embedding {
	first := make([]float64, 0, 4)
	squares := 0.0
	for i, value := range values {
		wide := number(value)
		squares += wide * wide
		if i < cap(first) {
			first = append(first, wide)
		}
	}
	return &embedding{Dim: len(values), Norm: math.Sqrt(squares), First: first}
}

// number widens a value of the API; a zero has no sign, which encoding/json would print.
func number(value float32) float64 {
	if value == 0 {
		return 0
	}
	return float64(value)
}
