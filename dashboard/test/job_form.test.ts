import { describe, expect, it } from "vitest";
import { EMPTY, forStorage, fromRequest, hasPreset, ofDraft, PRESETS, restored, toRequest, withPreset, type Draft } from "../src/domain/job_draft";
import { findings, partAt, type Schema } from "../src/domain/json_schema";
import { join, split } from "../src/domain/words";
import jobSchema from "../../schemas/job.json";

const schema: Schema = jobSchema as Schema;
const good: Draft = { ...EMPTY, image: "python:3.12", command: "python -c 'print(1)'" };
const wrong = (change: Partial<Draft>) => findings(schema, toRequest({ ...good, ...change })).map(({ pointer, detail }) => `${pointer} ${detail}`);

describe("a draft against the schema of job files", () => {
  it("has nothing against what is filled in well", () => {
    const whole: Draft = {
      ...good, gpu: true, gpus: "2", vram: "8000", attempts: "3", network: "internet", results: "out/*\n", address: "addr1", blockchain: "Cardano",
      env: [{ name: "A", value: "1" }], secrets: [{ name: "T", value: "x" }], inputs: [{ url: "https://example.org/a.tar.gz", sha256: "", path: "", unpack: "tar.gz" }],
    };
    expect(findings(schema, toRequest(whole))).toEqual([]);
    expect(findings(schema, toRequest({ ...good, how: "model", modelUrl: "https://example.org/m.py", packages: "numpy, torch" }))).toEqual([]);
  });

  it.each<[Partial<Draft>, string]>([
    [{ image: "" }, "/params/image_id is required"],
    [{ cpu: "" }, "/constraints/cpu is required"],
    [{ cpu: "0" }, "/constraints/cpu at least 1 is expected"],
    [{ cpu: "many" }, "/constraints/cpu a whole number is expected"],
    [{ ram: "1.5" }, "/constraints/ram a whole number is expected"],
    [{ minutes: "9999999" }, "/constraints/time at most 5,256,000 is expected"],
    [{ complexity: "Hard" }, "/constraints/complexity one of Low, Moderate, High is expected"],
    [{ maxNtx: "-1" }, "/max_ntx at least 0 is expected"],
    [{ attempts: "11" }, "/retry/max_attempts at most 10 is expected"],
    [{ image: "x".repeat(513) }, "/params/image_id has 513 characters, at most 512 are taken"],
    [{ inputs: [{ url: "https://a", sha256: "abc", path: "", unpack: "" }] }, "/params/inputs/0/sha256 64 hex digits in lower case are expected: a SHA-256"],
    [{ env: [{ name: "n".repeat(129), value: "" }] }, `/params/env/${"n".repeat(129)} has 129 characters, at most 128 are taken`],
  ])("names the field of %j", (change, problem) => expect(wrong(change)).toEqual([problem]));

  it("says that there are no arguments where no command is typed, so that the image's own runs", () => {
    expect(toRequest({ ...good, command: " " }).params["arguments"]).toEqual([]);
    expect(toRequest({ ...fromRequest(toRequest({ ...good, command: "" })) }).params["arguments"]).toEqual([]);
    expect(toRequest({ ...good, how: "model" }).params).not.toHaveProperty("arguments");
  });

  it("refuses keys that the API would pass over", () => {
    expect(findings(schema, { ...toRequest(good), blokchain: "" })).toEqual([{ pointer: "/blokchain", detail: "is not known here" }]);
  });

  it("knows what the schema says of a place", () => expect(partAt(schema, "/constraints/cpu")?.description).toBe("MHz over all cores"));
});

describe("a draft's own rules", () => {
  it("tells a name that is there twice, or both plain and secret, and a secret without its value", () => {
    const draft = { ...good, env: [{ name: "A", value: "1" }, { name: "A", value: "2" }, { name: "B", value: "" }], secrets: [{ name: "B", value: "x" }, { name: "C", value: "" }] };
    expect(ofDraft(draft).map(({ pointer }) => pointer)).toEqual(["/params/env/A", "/params/secret_env/B", "/params/secret_env/C"]);
  });
  it("tells names apart without the blanks around them, as they are asked for", () => {
    const draft = { ...good, env: [{ name: "A", value: "1" }, { name: "A ", value: "2" }], secrets: [{ name: " A", value: "x" }, { name: " B ", value: "" }] };
    expect(ofDraft(draft).map(({ pointer }) => pointer)).toEqual(["/params/env/A", "/params/secret_env/A", "/params/secret_env/B"]);
  });
  it("tells a quote that is not closed", () => expect(ofDraft({ ...good, command: "sh -c 'echo" })).toEqual([{ pointer: "/params/arguments", detail: "a single quote is not closed" }]));
});

describe("what is kept of a draft", () => {
  it("never has a secret's value", () => {
    const kept = forStorage({ ...good, secrets: [{ name: "TOKEN", value: "hf_secret" }] });
    expect(JSON.stringify(kept)).not.toContain("hf_secret");
    expect(kept.secrets).toEqual([{ name: "TOKEN", value: "" }]);
  });
  it("is taken as far as it still fits", () => {
    expect(restored({ image: "a:1", cpu: 5, env: "no", secrets: [{ name: "T", value: "leaked" }] })).toEqual({ ...EMPTY, image: "a:1", secrets: [{ name: "T", value: "" }] });
    expect(restored(null)).toEqual(EMPTY);
  });
});

describe("run again", () => {
  it("fills the form so that it asks for the same", () => {
    const draft: Draft = { ...good, gpu: true, gpus: "1", vram: "4000", results: "a\nb", env: [{ name: "A", value: "1" }], attempts: "2", resumeFrom: "j.tar.gz" };
    expect(toRequest(fromRequest(toRequest(draft)))).toEqual(toRequest(draft));
  });
  it("asks for secrets' values again", () => {
    const filled = fromRequest({ params: { image_id: "a", secret_env: { T: "sealed" } }, constraints: {} });
    expect(filled.secrets).toEqual([{ name: "T", value: "" }]);
  });
});

describe("presets", () => {
  it("are the original's, and leave the minutes", () => {
    const moderate = PRESETS[1];
    if (!moderate) throw new Error("no such preset");
    const draft = withPreset({ ...good, minutes: "7" }, moderate);
    expect(draft).toMatchObject({ complexity: "Moderate", cpu: "1500", ram: "8000", vram: "8000", power: "220", minutes: "7" });
    expect(PRESETS.filter((one) => hasPreset(draft, one))).toEqual([moderate]);
  });
});

describe("command lines", () => {
  it.each<[string, string[]]>([
    ["python train.py --epochs 10", ["python", "train.py", "--epochs", "10"]],
    ["sh -c 'echo \"a b\"\nexit 3'", ["sh", "-c", 'echo "a b"\nexit 3']],
    ['echo "a \\"b\\" \\n" c\\ d \'\'', ["echo", 'a "b" \\n', "c d", ""]],
    ["  ", []],
  ])("%j is parted", (text, words) => {
    expect(split(text)).toEqual(words);
    expect(split(join(words))).toEqual(words);
  });
});
