#!/usr/bin/env python3
"""Judges the OpenAPI document of the daemon, and its answers by it.

judge.py DOCUMENT ANSWERS

DOCUMENT is what /openapi.json served. ANSWERS has one JSON object per line: the method and path of a route of the
document, and an answer of it. Prints every fault, and as its last line how many answers it judged and how many faults
it found; exits with 1 if there are any.
"""

import json
import sys

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator, validate


def schema_of(document, method, path):
    """The schema of a good answer, with the document's components to refer to."""
    content = document["paths"][path][method]["responses"]["200"]["content"]
    (media,) = content.values()
    schema = media["schema"]
    # The messages of a stream are described one by one.
    schema = schema.get("contentSchema", schema)
    return {**schema, "components": document["components"]}


def faults_of(document, answer):
    method, path = answer["method"], answer["path"]
    validator = Draft202012Validator(schema_of(document, method, path))
    for error in validator.iter_errors(answer["answer"]):
        place = "/".join(str(step) for step in error.absolute_path)
        yield f"{method} {path}: {place}: {error.message}"


def main():
    document_file, answers_file = sys.argv[1:]
    with open(document_file, encoding="utf-8") as file:
        document = json.load(file)
    faults = []
    try:
        validate(document, cls=OpenAPIV31SpecValidator)
    except Exception as error:  # whatever is wrong with it is a fault of the document
        faults.append(f"document: {error}")
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    judged = 0
    with open(answers_file, encoding="utf-8") as file:
        for line in file:
            judged += 1
            faults.extend(faults_of(document, json.loads(line)))
    for fault in faults:
        print(fault)
    print(f"{judged} answers, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
