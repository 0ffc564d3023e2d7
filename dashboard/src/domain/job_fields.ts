/** The names of a request's fields as the form has them. */

const NAMES: Record<string, string> = {
  "/params/image_id": "Image",
  "/params/arguments": "Command",
  "/params/model_url": "Model URL",
  "/params/packages": "Packages",
  "/params/machine_type": "GPU",
  "/params/node_id": "Provider",
  "/params/inputs": "Input",
  "/params/results": "Results",
  "/params/env": "Variable",
  "/params/secret_env": "Secret",
  "/params/resume_job": "Checkpoint",
  "/constraints/complexity": "Complexity",
  "/constraints/cpu": "CPU",
  "/constraints/ram": "Memory",
  "/constraints/time": "Minutes",
  "/constraints/power": "Power",
  "/constraints/gpus": "GPUs",
  "/constraints/vram": "GPU memory",
  "/constraints/share_gpu": "Share the GPU",
  "/constraints/network": "Network",
  "/max_ntx": "Price limit",
  "/address_user": "Your wallet",
  "/blockchain": "Blockchain",
  "/service_type": "Kind",
  "/retry/max_attempts": "Attempts",
};

/** "/params/inputs/0/sha256" -> "Input 1, sha256"; "/params/env/A" -> "Variable A". */
export function nameOf(pointer: string): string {
  const own = NAMES[pointer];
  if (own) return own;
  const field = fieldOf(pointer);
  const rest = pointer.slice(field.length + 1).split("/");
  if (!NAMES[field]) return pointer;
  return [`${NAMES[field]} ${/^\d+$/.test(rest[0] ?? "") ? Number(rest[0]) + 1 : plainStep(rest[0] ?? "")}`, ...rest.slice(1)].join(", ");
}

/** The field of the form that a pointer is about; the pointer itself where there is none. */
export function fieldOf(pointer: string): string {
  for (let at = pointer; at; at = at.slice(0, at.lastIndexOf("/"))) if (NAMES[at]) return at;
  return pointer;
}

const plainStep = (step: string): string => step.replaceAll("~1", "/").replaceAll("~0", "~");
