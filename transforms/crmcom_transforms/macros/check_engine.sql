{#
    Stops a build on an engine on which the marts were never run, unless `crmcom_any_engine` asks for
    it, and on a Spark that would read the warehouse's times in the zone of the session.
#}
{% macro check_engine() %}
    {%- if target.type == 'spark' -%}
        {%- set kind = run_query('set spark.sql.timestampType').rows[0][1] -%}
        {%- if kind != 'TIMESTAMP_NTZ' -%}
            {{ exceptions.raise_compiler_error(
                'spark.sql.timestampType must be TIMESTAMP_NTZ, not ' ~ kind
                ~ ': see server_side_parameters in docs/spark/profiles.yml'
            ) }}
        {%- endif -%}
    {%- elif target.type not in ('duckdb', 'postgres') and not var('crmcom_any_engine', false) -%}
        {{ exceptions.raise_compiler_error(
            'the marts were never run on ' ~ target.type ~ ': see docs/destinations.md. '
            ~ 'To try it all the same, set the variable crmcom_any_engine to true'
        ) }}
    {%- endif -%}
{% endmacro %}
