export function ComputeProviderHome() {
  return <section><h1>This machine</h1></section>;
}
