{# No two rows agree in `columns`; nulls agree with each other. #}
{% test unique_combination(model, columns, only_planned_days=false) %}

{%- set tests = [] -%}
{%- for first, last in (crmcom_transforms.built_parts() if only_planned_days else [(none, none)]) -%}
{%- set test %}
select
    {{ columns | join(', ') }},
    count(*) as rows_found
from {{ model }}
{%- if only_planned_days %}
where {{ crmcom_transforms.is_within(
    'date_day', crmcom_transforms.sql_date(first), crmcom_transforms.sql_date(last)
) }}
{%- endif %}
group by {{ columns | join(', ') }}
having count(*) > 1
{% endset -%}
{%- do tests.append(test) -%}
{%- endfor -%}
{{ crmcom_transforms.first_to_fail(tests) }}

{% endtest %}
