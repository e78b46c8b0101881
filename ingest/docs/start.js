// Everything comes from this collector; validatorUrl is null because the default one is on another host.
SwaggerUIBundle({
  dom_id: "#interface",
  url: "openapi.json",
  validatorUrl: null,
  deepLinking: true,
  displayRequestDuration: true,
});
