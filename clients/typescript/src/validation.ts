import type { Schema } from "./forms.js";

type Node = Readonly<Record<string, unknown>>;

/**
 * The fault of `value` under `schema`, with the path to it; undefined if there is none.
 *
 * Only keywords that `FromSchema` follows are looked at, so that a value without a fault is of the type that it gives.
 */
export function faultIn(value: unknown, schema: Schema, path = ""): string | undefined {
  const { const: constant, enum: values, anyOf, oneOf, type } = schema;
  if (constant !== undefined) return same(value, constant) ? undefined : told(path, `is not ${JSON.stringify(constant)}`);
  if (Array.isArray(values)) {
    return values.some((each) => same(value, each)) ? undefined : told(path, `is none of ${JSON.stringify(values)}`);
  }
  const choices = anyOf ?? oneOf;
  if (Array.isArray(choices)) {
    const faults = choices.map((each: Schema) => faultIn(value, each, path));
    return faults.includes(undefined) ? undefined : faults.join(", or ");
  }
  if (type === undefined) return undefined;
  const types: unknown[] = Array.isArray(type) ? type : [type];
  if (!types.some((each) => isOf(value, each))) return told(path, `is no ${types.join(" or ")}`);
  if (Array.isArray(value)) return inItems(value, schema, path);
  return isObject(value) ? inMembers(value, schema, path) : undefined;
}

function inItems(value: readonly unknown[], { items }: Schema, path: string): string | undefined {
  if (!isObject(items)) return undefined;
  return first(value.keys(), (at) => faultIn(value[at], items, `${path}[${at}]`));
}

function inMembers(value: Node, schema: Schema, path: string): string | undefined {
  const { properties, required, additionalProperties: others } = schema;
  const known: Node = isObject(properties) ? properties : {};
  const missing = Array.isArray(required) ? required.find((name: string) => !Object.hasOwn(value, name)) : undefined;
  if (missing !== undefined) return told(inside(path, missing), "is missing");
  return first(Object.keys(value), (name) => {
    const its = Object.hasOwn(known, name) ? known[name] : others;
    if (its === false) return told(inside(path, name), "is not known");
    return isObject(its) ? faultIn(value[name], its, inside(path, name)) : undefined;
  });
}

function isOf(value: unknown, type: unknown): boolean {
  if (type === "integer") return Number.isInteger(value);
  if (type === "null") return value === null;
  if (type === "array") return Array.isArray(value);
  return type === "object" ? isObject(value) : typeof value === type;
}

function isObject(value: unknown): value is Node {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function same(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

function first<T>(items: Iterable<T>, faultOf: (item: T) => string | undefined): string | undefined {
  for (const item of items) {
    const fault = faultOf(item);
    if (fault !== undefined) return fault;
  }
  return undefined;
}

function inside(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}

function told(path: string, fault: string): string {
  return `${path || "it"} ${fault}`;
}
